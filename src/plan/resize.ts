// Whether a training fits when it goes on with another number of hosts or ranks, each of which may then keep a larger part of it. Pure.
import { describeSize, type GangSize } from '../contracts/gang-size.ts';
import type { PoolHost } from '../contracts/pool.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { TokeniseResult } from '../contracts/trainer-protocol.ts';
import { checkMemory, describePlace, gib, type MemoryCheck, questionOf } from './memory-check.ts';
import type { ModelShape } from './model-shape.ts';
import { smallestHost } from './pool-hosts.ts';

export interface ResizeFacts {
  shape: ModelShape;
  recipe: Recipe;
  tokens: TokeniseResult['splits'][string];
  hosts: PoolHost[];
}

/** A sentence, or null: also where nothing is known of hosts, and where arithmetic already errs about the training as it is. */
export function resizeProblem(facts: ResizeFacts, from: GangSize, to: GangSize): string | null {
  const [before, after] = [checkAt(facts, from), checkAt(facts, to)];
  if (after?.verdict !== 'too_large' || before?.verdict === 'too_large') return null;
  const needs = `${describeSize(to)} would need ${gib(after.bytes)} for each rank (by arithmetic)`;
  return `${needs}, and ${describePlace(after)} ${gib(after.limitBytes)}; choose more hosts or ranks, so that each keeps a smaller part.`;
}

function checkAt({ shape, recipe, tokens, hosts }: ResizeFacts, size: GangSize): MemoryCheck | null {
  const sized = { ...recipe, ...size };
  const host = smallestHost(hosts, sized);
  return host && checkMemory(questionOf(shape, sized, tokens, host), host, null);
}
