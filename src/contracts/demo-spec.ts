// The demo: spoken home-automation commands become JSON tool calls. `examples/home-assistant.yaml` is the same, for reading.

export const DEMO_SPEC: Record<string, unknown> = {
  name: 'home-assistant',
  model: { base: 'smollm2-135m' },
  data: {
    sources: [
      { uri: 'example:home-assistant/chat.jsonl' },
      { uri: 'example:home-assistant/questions.csv' },
      { uri: 'example:home-assistant/instructions.json' },
    ],
    system: 'Turn the command into JSON with intent and slots.',
    split: { test: 0.16, validation: 0.03 },
    maxLength: 256,
  },
  train: {
    lora: { rank: 16, alpha: 32, firstLayer: 10 },
    epochs: 1,
    // Two ranks of one thread are half as fast again as one process of two on two cores.
    processes: 2,
    threads: 1,
    // The same bits with and without a GPU.
    device: 'cpu',
    microBatch: 4,
    learningRate: 0.0015,
    schedule: 'cosine',
  },
  evaluate: { rows: 200, match: 'json', maxNewTokens: 44, control: { shots: 12, stratifyBy: 'intent' } },
};
