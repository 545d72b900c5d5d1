// A learning curve for TensorBoard: the very bytes that TensorBoard's own writer (2.21) makes of the same events.
import { expect, test } from 'vitest';
import { encodeCurve } from '../../src/registry/tensorboard.ts';

const WRITTEN_BY_TENSORBOARD = [
  '1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c200000000000000029ed',
  'a95009000000000000f83f10012a130a110a0a747261696e2f6c6f7373150000204045716e532500000000000000eabc36f3',
  '09000000000000f83f10012a180a160a0f747261696e2f677261645f6e6f726d15cdcccc3d3bf87e65290000000000000037',
  'ff5f0009000000000000f83f10012a1c0a1a0a13747261696e2f6c6561726e696e675f726174651517b7513961a29a5a2000',
  '00000000000029eda95009000000000000f83f10ac022a120a100a096576616c2f6c6f7373150000a03f398efd6924000000',
  '00000000422b804d09000000000000f83f10ac022a160a140a0d6576616c2f6163637572616379150000403f7c81aac3',
].join('');

test('the bytes of TensorBoard’s own writer', () => {
  const steps = [{ step: 1, loss: 2.5, gradNorm: 0.1, learningRate: 0.0002 }];
  const validations = [{ step: 300, loss: 1.25, accuracy: 0.75 }];
  expect(encodeCurve({ steps, validations }, 1.5).toString('hex')).toBe(WRITTEN_BY_TENSORBOARD);
});
