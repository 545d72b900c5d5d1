// Whether a training fits into memory: by arithmetic, and where that says that it may become tight, by a probe. Says what to change.
import { AnnealError } from '../contracts/failure.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { ProbeResult, TokeniseResult } from '../contracts/trainer-protocol.ts';
import { type StrategyChoice, strategyOf } from '../trainer/strategy.ts';
import { gpusFor, type Host, limitOf } from './host.ts';
import {
  fixedOf,
  isHeldToParent,
  type MemoryParts,
  type MemoryQuestion,
  predictMemory,
  type Sharding,
  totalOf,
} from './memory.ts';
import type { ModelShape } from './model-shape.ts';
import { countParameters } from './parameters.ts';
import { extrapolate } from './probe.ts';
import { findRemedies, type Remedy } from './remedies.ts';

export interface MemoryCheck {
  /** By arithmetic. */
  parts: MemoryParts;
  /** The best that is known. */
  bytes: number;
  how: 'arithmetic' | 'probe';
  /** Of one process; of its GPU where it has one. */
  limitBytes: number;
  device: 'cpu' | 'gpu';
  /** Whose memory it is: a host of the pool; null = this machine. */
  host: string | null;
  verdict: MemoryVerdict;
  /** Empty when it fits. */
  remedies: Remedy[];
}

/** `tight`: within the error of the prediction. The run goes on then, and halves the micro-batch should it have to. */
export type MemoryVerdict = 'fits' | 'tight' | 'too_large';

/** A probe is up to 5 % low, and the peaks of equal trainings differ by 4 % (measured); the rest is for what else the host does. */
const MARGIN = 1.15;
/** Arithmetic may be a third low: above this share of the limit it is not trusted, and a probe is worth its time. */
const PROBED_FROM = 0.5;

export function judge(bytes: number, limitBytes: number): MemoryVerdict {
  if (bytes > limitBytes) return 'too_large';
  return bytes * MARGIN > limitBytes ? 'tight' : 'fits';
}

export function questionOf(
  shape: ModelShape,
  recipe: Recipe,
  tokens: TokeniseResult['splits'][string],
  host: Host,
): MemoryQuestion {
  return {
    ...{ shape, recipe, ranks: recipe.processes * recipe.hosts },
    device: gpusFor(host, recipe).length > 0 ? 'gpu' : 'cpu',
    sharding: shardingOf(recipe, strategyFor(shape, recipe, host)),
    batch: {
      rows: recipe.microBatch,
      tokens: tokens.longest,
      labels: tokens.trainableTokens / Math.max(1, tokens.tokens),
    },
  };
}

/** The same choice as the trainer's. */
export function strategyFor(shape: ModelShape, recipe: Recipe, host: Host): StrategyChoice {
  const { trainable, total } = countParameters(shape, recipe);
  const memory = gpusFor(host, recipe).map(({ memoryBytes }) => memoryBytes);
  return strategyOf(recipe, {
    parameters: total,
    trainable,
    gpuMemoryBytes: memory.length === 0 ? null : Math.min(...memory),
    readsImages: shape.readsImages,
  });
}

function shardingOf({ deepspeed }: Recipe, { strategy }: StrategyChoice): Sharding {
  if (strategy !== 'deepspeed') return strategy;
  if (typeof deepspeed === 'string') return deepspeed;
  const zero = deepspeed.zero_optimization;
  return typeof zero === 'object' && zero !== null && 'stage' in zero && zero.stage === 3 ? 'zero3' : 'zero2';
}

/** @param probe what was measured with this recipe, or null. */
export function checkMemory(question: MemoryQuestion, host: Host, probe: ProbeResult | null): MemoryCheck {
  const { recipe, batch, device } = question;
  const parts = predictMemory(question);
  const limitBytes = limitOf(host, recipe);
  const atRows = (rows: number) => probe && addUnmeasured(question, extrapolate(probe, rows));
  // Where it did not fit, all that is known is that it is more than there is.
  const unknown = probe === null ? totalOf(parts) : Math.max(totalOf(parts), limitBytes * MARGIN);
  const bytes = atRows(batch.rows) ?? unknown;
  const verdict = judge(bytes, limitBytes);
  const remedies = verdict === 'fits' ? [] : findRemedies(question, { limitBytes, bytes, atRows });
  const how = probe === null ? 'arithmetic' : 'probe';
  return { parts, bytes, how, limitBytes, device, host: host.name ?? null, verdict, remedies };
}

/**
 * A probe trains without warm state and without the version that is continued, and a rank of DDP by itself: it has its gradients a second
 * time.
 */
function addUnmeasured(question: MemoryQuestion, bytes: number | null): number | null {
  if (bytes === null) return null;
  const { gradients, recovery } = predictMemory(question);
  const { trainable } = countParameters(question.shape, question.recipe);
  const second = isHeldToParent(question.recipe) ? 4 * trainable : 0;
  return bytes + recovery + second + (question.sharding === 'ddp' ? gradients / 2 : 0);
}

/** Whether measuring is worth its time: not where there is plenty of room, nor where nothing fits; and ranks of other hosts are not here. */
export function wantsProbe(question: MemoryQuestion, host: Host, from = PROBED_FROM): boolean {
  const holdsPart = question.sharding !== 'none' && question.sharding !== 'ddp';
  if (holdsPart && question.recipe.hosts > 1) return false;
  const parts = predictMemory(question);
  const limit = limitOf(host, question.recipe);
  return totalOf(parts) > from * limit && fixedOf(parts) <= limit;
}

/** @throws AnnealError `out_of_memory` when it is certain that the training will not fit. */
export function requireFit(check: MemoryCheck, recipe: Recipe): void {
  if (check.verdict !== 'too_large') return;
  throw new AnnealError('out_of_memory', `${describeLack(check, recipe)} ${describeRemedies(check)}`);
}

/** Such as `a GPU of host b has`. */
export function describePlace({ device, host }: Pick<MemoryCheck, 'device' | 'host'>): string {
  const whose = host === null ? 'this host' : `host ${host}`;
  return device === 'gpu' ? `a GPU of ${whose} has` : `one process of ${whose} may have`;
}

export function describeLack(check: MemoryCheck, { microBatch }: Recipe): string {
  const { bytes, limitBytes, how } = check;
  const by = how === 'probe' ? 'measured by short steps' : 'by arithmetic';
  return `With \`train.microBatch\` ${microBatch} training needs ${gib(bytes)} (${by}), and ${describePlace(check)} ${gib(limitBytes)}: it would run out of memory.`;
}

export function describeRemedies({ remedies, limitBytes }: MemoryCheck): string {
  const fitting = remedies.filter(({ bytes }) => bytes <= limitBytes);
  if (fitting.length === 0)
    return `No single change is enough${remedies[0] ? `; the most saves ${quoted(remedies[0].change)} (${gib(remedies[0].bytes)})` : ''}. Take a smaller model or more memory.`;
  return `Set ${fitting.map(({ change, bytes }) => `${quoted(change)} (${gib(bytes)})`).join(', or ')}; \`train.probe: off\` tries it anyway.`;
}

/** Each of its settings. */
function quoted(change: string): string {
  return change
    .split(' with ')
    .map((setting) => `\`${setting}\``)
    .join(' with ');
}

export function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(bytes < 100 * 1024 ** 3 ? 2 : 0)} GiB`;
}
