// All workflows: what the control worker bundles.
export { FineTune } from './fine-tune.ts';
export { GpuPool } from './gpu-pool.ts';
export { Retraining } from './retraining.ts';
export { Sweep } from './sweep.ts';
export { TrainingGang } from './training-gang.ts';
