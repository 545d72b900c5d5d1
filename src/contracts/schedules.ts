// How the learning rate may go after its warm-up.

export const SCHEDULES = ['linear', 'cosine', 'constant', 'polynomial', 'inverse_sqrt', 'warmup_stable_decay'] as const;
