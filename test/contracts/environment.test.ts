// Variables that are wrong: all of them in one sentence, with what they hold.
import { expect, test } from 'vitest';
import { readEnvironment } from '../../src/contracts/environment.ts';

test('every wrong variable is named with its value, and empty ones count as not set', () => {
  expect(readEnvironment({ ANNEAL_GATEWAY_PORT: '' }).ANNEAL_GATEWAY_PORT).toBe(8080);
  expect(() => readEnvironment({ ANNEAL_GATEWAY_PORT: '70000', ANNEAL_STORE: 'tape' })).toThrow(
    /ANNEAL_STORE is "tape", .*; ANNEAL_GATEWAY_PORT is "70000", /,
  );
});
