// Scores the candidate and the base model on the same held-out rows and judges the difference.
// Every prediction is stored; every number is computed from the stored ones.
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { Evaluation, FileSet, VariantScore } from '../contracts/records.ts';
import {
  JudgedRowSchema,
  type Method,
  PairRowSchema,
  ROW_KINDS,
  type Row,
  RowSchema,
  TextRowSchema,
} from '../contracts/rows.ts';
import type { Spec } from '../contracts/spec.ts';
import {
  type EvaluateJob,
  PROTOCOL_VERSION,
  type Prediction,
  PredictionSchema,
} from '../contracts/trainer-protocol.ts';
import { digestOf } from '../storage/digest.ts';
import { getFolder, putFolder } from '../storage/file-set.ts';
import { bringImages } from '../storage/images.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { BaseModel } from '../trainer/base-model.ts';
import { type ChildOptions, type PythonConfig, requireDone, startChild } from '../trainer/child.ts';
import type { WarmParent } from '../trainer/warm-parent.ts';
import { decideGate, UNTUNED } from './gate.ts';
import { decideMatchKind, isMatch, type MatchKind } from './match.ts';
import { type PreferenceRow, summarisePreferences } from './preferences.ts';
import { chooseRows, chooseShots, promptOf, referenceOf } from './shots.ts';
import { wilsonInterval } from './statistics.ts';

export interface EvaluateOptions {
  store: ObjectStore;
  python: PythonConfig;
  /** The worker's; null = the evaluation starts cold. */
  warmParent: WarmParent | null;
  /** Working folder; emptied first. */
  folder: string;
  base: BaseModel;
  dataset: FileSet;
  adapter: FileSet;
  /** The version that the run continues; null = it continues none. */
  parent: { name: string; files: FileSet } | null;
  /** How the adapter was trained. */
  method: Method;
  spec: Spec['evaluate'];
  threads: number;
  signal: AbortSignal;
  onProgress: (done: number, of: number, detail: string) => void;
}

/** Rows of the splits that are scored or shown: `test.jsonl`, or `test-00000-of-00002.jsonl` where there are several. */
const ROW_FILES = /^(test|train)(?:-\d+-of-\d+)?\.jsonl$/;
/** What `sft` learns from. */
const ChatRowSchema = z.union([RowSchema, TextRowSchema]);
type ChatRow = z.infer<typeof ChatRowSchema>;
/** Examples that are kept in the record for people. */
const EXAMPLES_MAX = 6;
/** From SIGTERM to SIGKILL; an evaluation has nothing to save, ms. */
const GRACE_MS = 2_000;
/** Longest silence of an evaluation: a batch of long generations on a slow machine, ms. */
const SILENCE_MS_MAX = 15 * 60_000;

export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { folder, store } = options;
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, 'out'), { recursive: true });
  const wanted = options.dataset.files.filter(({ path }) => ROW_FILES.test(path));
  await getFolder(store, { digest: options.dataset.digest, files: wanted }, join(folder, 'dataset'), options.signal);
  await getFolder(store, options.adapter, join(folder, 'adapter'), options.signal);
  if (options.parent !== null) await getFolder(store, options.parent.files, join(folder, 'parent'), options.signal);

  return options.method === 'sft' ? await evaluateChats(options) : await evaluatePreferences(options, options.method);
}

async function evaluateChats(options: EvaluateOptions): Promise<Evaluation> {
  const { folder, store, spec } = options;
  const rows = chooseRows(await readSplit(folder, 'test', ChatRowSchema), spec.rows);
  // A text has no answer that could be right.
  const matchKind = rows.some((row) => 'text' in row) ? 'none' : decideMatchKind(spec.match, rows.map(referenceOf));
  const shots = matchKind === 'none' || rows.some(showsImages) ? [] : await shotsFrom(folder, spec);
  const generate = matchKind !== 'none';
  const variant = (name: string, adapter: string | null, its: Row[]) => ({ name, adapter, shots: its, generate });
  const parent = options.parent?.name ?? null;
  const predictions = await predict(options, rows, null, [
    variant('base', null, []),
    ...(parent === null ? [] : [variant('parent', join(folder, 'parent'), [])]),
    ...(shots.length > 0 ? [variant('control', null, shots)] : []),
    variant('candidate', join(folder, 'adapter'), []),
  ]);
  const stored = await putFolder(store, join(folder, 'out'), options.signal);
  return summarise({ spec, rows, shots: shots.length, matchKind, predictions, stored, parent });
}

/** Examples with images would fill the prompt: a control is asked only where no question has one, with examples that have none. */
async function shotsFrom(folder: string, { control }: Spec['evaluate']): Promise<Row[]> {
  const rows = await readSplit(folder, 'train', ChatRowSchema);
  const examples = rows.filter((row) => 'messages' in row && !showsImages(row));
  return chooseShots(examples as Row[], control.shots, control.stratifyBy);
}

function showsImages(row: ChatRow): boolean {
  return 'media' in row;
}

/** An untuned model with a new head gives rewards by chance; there is nothing to measure of it. */
async function evaluatePreferences(options: EvaluateOptions, method: Exclude<Method, 'sft'>): Promise<Evaluation> {
  const { folder, store, spec } = options;
  const schema = ROW_KINDS[method] === 'pair' ? PairRowSchema : JudgedRowSchema;
  const held: PreferenceRow[] = await readSplit(folder, 'test', schema);
  const rows = chooseRows(held, spec.rows);
  const generate = method !== 'reward';
  const parent = generate ? (options.parent?.name ?? null) : null;
  const variant = (name: string, adapter: string | null) => ({
    name,
    adapter: adapter && join(folder, adapter),
    ...{ shots: [], generate },
  });
  const variants = [
    ...(generate ? [variant('base', null)] : []),
    ...(parent === null ? [] : [variant('parent', 'parent')]),
    variant('candidate', 'adapter'),
  ];
  const predictions = await predict(options, rows, EXAMPLES_MAX, variants);
  const stored = await putFolder(store, join(folder, 'out'), options.signal);
  return summarisePreferences({ method, spec, rows, predictions, stored, parent });
}

/** @param answers of how many of the first rows; null = all. */
async function predict(
  options: EvaluateOptions,
  rows: (ChatRow | PreferenceRow)[],
  answers: number | null,
  variants: EvaluateJob['variants'],
): Promise<Prediction[]> {
  const { folder } = options;
  const rowsFile = join(folder, 'rows.jsonl');
  await writeFile(rowsFile, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  await bringImages(options.store, [rowsFile], options.signal);
  const job: EvaluateJob = {
    v: PROTOCOL_VERSION,
    command: 'evaluate',
    baseModel: options.base.folder,
    method: options.method,
    rows: rowsFile,
    variants,
    answers,
    maxNewTokens: options.spec.maxNewTokens,
    threads: options.threads,
    predictions: join(folder, 'out', 'predictions.jsonl'),
  };
  const how: ChildOptions = {
    python: options.python,
    job,
    folder,
    signal: options.signal,
    graceMs: GRACE_MS,
    silenceMsMax: () => SILENCE_MS_MAX,
    onEvent: (event) => {
      if (event.ev === 'progress') options.onProgress(event.done, event.of, event.detail ?? 'evaluate');
    },
  };
  const child = (await options.warmParent?.run(how)) ?? startChild(how);
  const end = await child.ended;
  options.signal.throwIfAborted();
  requireDone(end, 'Evaluation');
  return await readLines(job.predictions, PredictionSchema);
}

interface Scored {
  spec: Spec['evaluate'];
  rows: ChatRow[];
  shots: number;
  matchKind: MatchKind;
  predictions: Prediction[];
  stored: FileSet;
  /** Name of the version that the run continues, whose predictions are those of the variant `parent`; null = none. */
  parent: string | null;
}

/** Everything the record says, computed from the predictions alone. */
export function summarise({ spec, rows, shots, matchKind, predictions, stored, parent }: Scored): Evaluation {
  const confidence = spec.gate.confidence;
  const of = (variant: string) => new Map(predictions.filter((p) => p.variant === variant).map((p) => [p.id, p]));
  const variants = { base: of('base'), control: of('control'), parent: of('parent'), candidate: of('candidate') };
  const score = (name: keyof typeof variants, its: number) =>
    scoreVariant(name, its, rows, variants[name], matchKind, confidence);
  const base = score('base', 0);
  const control = variants.control.size > 0 ? score('control', shots) : null;
  const candidate = score('candidate', 0);
  const other = control !== null && (control.match?.correct ?? 0) >= (base.match?.correct ?? 0) ? 'control' : 'base';

  const judge = (variant: keyof typeof variants, row: ChatRow) => {
    const prediction = variants[variant].get(row.id);
    return {
      correct: prediction === undefined ? null : isMatch(matchKind, referenceOf(row), prediction.output),
      loss: prediction?.loss ?? null,
    };
  };
  const compareWith = (name: keyof typeof variants, against: string) =>
    decideGate(spec.gate, {
      against,
      rows: rows.map((row) => ({ candidate: judge('candidate', row), other: judge(name, row) })),
      hasMatch: matchKind !== 'none',
    });
  const compareWithUntuned = () => {
    const comparison = compareWith(other, describe(other, shots));
    // Losses are compared with the same prompt: examples in the prompt change what the loss means.
    return comparison.metric === 'loss' && other === 'control' ? compareWith('base', describe('base', 0)) : comparison;
  };
  const comparison = parent === null ? null : compareWith('parent', parent);
  return {
    rows: rows.length,
    rowsDigest: digestOf(rows.map((row) => row.id)),
    matchKind,
    base,
    control,
    candidate,
    rewards: null,
    gate: spec.gate.against === 'parent' && comparison !== null ? comparison : compareWithUntuned(),
    parent: parent === null || comparison === null ? null : { ...score('parent', 0), name: parent, comparison },
    examples: rows.slice(0, EXAMPLES_MAX).map((row) => ({
      prompt: promptOf(row),
      reference: referenceOf(row),
      before: variants.base.get(row.id)?.output ?? null,
      after: variants.candidate.get(row.id)?.output ?? null,
      correct: judge('candidate', row).correct,
    })),
    predictions: stored,
  };
}

function describe(variant: 'base' | 'control', shots: number): string {
  return variant === 'base' ? UNTUNED : `the untuned model with ${shots} examples in its prompt`;
}

function scoreVariant(
  name: string,
  shots: number,
  rows: ChatRow[],
  predictions: Map<string, Prediction>,
  matchKind: MatchKind,
  confidence: number,
): VariantScore {
  const correct = rows.filter(
    (row) => isMatch(matchKind, referenceOf(row), predictions.get(row.id)?.output ?? null) === true,
  ).length;
  const tokens = [...predictions.values()].reduce((sum, p) => sum + p.tokens, 0);
  const loss = [...predictions.values()].reduce((sum, p) => sum + p.loss * p.tokens, 0) / Math.max(1, tokens);
  return {
    name,
    shots,
    match:
      matchKind === 'none' ? null : { correct, n: rows.length, ...wilsonInterval(correct, rows.length, confidence) },
    likelier: null,
    loss,
    perplexity: Math.exp(Math.min(loss, 700)),
  };
}

/** All files of a split, in their order. */
async function readSplit<S extends z.ZodType>(folder: string, split: string, schema: S): Promise<z.output<S>[]> {
  const names = (await readdir(join(folder, 'dataset'))).filter((name) => ROW_FILES.exec(name)?.[1] === split);
  const files: z.output<S>[][] = [];
  for (const name of names.sort()) files.push(await readLines(join(folder, 'dataset', name), schema));
  return files.flat();
}

async function readLines<S extends z.ZodType>(path: string, schema: S): Promise<z.output<S>[]> {
  const lines: z.output<S>[] = [];
  for await (const line of createInterface({ input: createReadStream(path) }))
    if (line !== '') lines.push(schema.parse(JSON.parse(line)));
  return lines;
}
