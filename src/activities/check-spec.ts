// Reads the spec before anything else happens: all problems at once, each with its path.
import type { Spec } from '../contracts/spec.ts';
import { parseSpec } from '../contracts/spec.ts';
import type { CheckSpecInput } from '../contracts/stages.ts';
import { toFailure } from './stage.ts';

export async function checkSpec({ input }: CheckSpecInput): Promise<Spec> {
  try {
    return parseSpec(input);
  } catch (error) {
    throw toFailure(error);
  }
}
