// Chats to tokens with assistant masks: Anneal's `tokenise` beside `datasets.map` with the same fast tokenizer, template and rows.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { locateLocal } from '../src/cli/drill/local.ts';
import { PROTOCOL_VERSION } from '../src/contracts/trainer-protocol.ts';
import { readHeader } from '../src/storage/safetensors.ts';
import { requireDone, startChild } from '../src/trainer/child.ts';
import { writeChats } from './chats.ts';
import { type BenchOptions, type BenchReport, median, round, show } from './report.ts';
import { pythonEnvironment } from './small-model.ts';

const FULL = { bytes: 16e6, turns: 3 };
const QUICK = { bytes: 3e6, turns: 1 };
const PROCESSES = [1, 2];
const SEED = 6;
const BASE = 'smollm2-135m';
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'config.json'];
/** Longer than every row: nothing is dropped. */
const MAX_LENGTH = 131_072;

const CHATML = (answer: string) =>
  `{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}${answer}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`;
const TEMPLATES = {
  marked: CHATML("{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"),
  plain: CHATML("{{ m['content'] + '<|im_end|>' }}"),
};

interface Place {
  folder: string;
  rows: string;
  bytes: number;
  signal: AbortSignal;
}
interface Taken {
  seconds: number;
  digest: string;
}
type System = (place: Place, processes: number) => Promise<Taken>;

const SYSTEMS: Record<string, System> = {
  'datasets.map': (place, processes) => takeRival(place, processes),
  anneal: (place, processes) => takeAnneal(place, processes, 'marked'),
  'anneal, template without marks': (place, processes) => takeAnneal(place, processes, 'plain'),
};

export async function run({ quick, signal, say }: BenchOptions): Promise<BenchReport> {
  const { bytes: bytesMin, turns } = quick ? QUICK : FULL;
  const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  try {
    const place = { folder, rows: join(folder, 'rows.jsonl'), signal, bytes: 0 };
    const { bytes, rows } = writeChats(place.rows, bytesMin, SEED);
    for (const kind of ['marked', 'plain'] as const) makeModel(join(folder, kind), TEMPLATES[kind]);
    const measured = await takeTurns({ ...place, bytes }, turns, say);
    return report(measured, { bytes, rows, turns });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Measured {
  system: string;
  processes: number;
  taken: Taken[];
}

async function takeTurns(place: Place, turns: number, say: (line: string) => void): Promise<Measured[]> {
  const measured = PROCESSES.flatMap((processes) =>
    Object.keys(SYSTEMS).map((system) => ({ system, processes, taken: [] as Taken[] })),
  );
  for (let turn = 1; turn <= turns; turn++) {
    // Who is first changes, so that a machine that slows down favours nobody.
    for (const one of turn % 2 === 1 ? measured : measured.toReversed()) {
      say(`turn ${turn}: ${one.system}, ${one.processes} at once`);
      one.taken.push(await (SYSTEMS[one.system] as System)(place, one.processes));
    }
  }
  return measured;
}

function report(
  measured: Measured[],
  { bytes, rows, turns }: { bytes: number; rows: number; turns: number },
): BenchReport {
  const speeds = measured.map(({ system, processes, taken }) => {
    const seconds = median(taken.map((one) => one.seconds)) as number;
    return { system, processes, seconds, mbPerSecond: bytes / 1e6 / seconds };
  });
  const rivalOf = (processes: number) => speeds.find((one) => one.processes === processes)?.mbPerSecond as number;
  const digests = new Set(measured.flatMap(({ taken }) => taken.map(({ digest }) => digest)));
  const isEqual = digests.size === 1;
  const results = speeds.map((one) => ({
    system: one.system,
    processes: one.processes,
    seconds: round(one.seconds, 2),
    mbPerSecond: round(one.mbPerSecond, 2),
    factor: round(one.mbPerSecond / rivalOf(one.processes), 2),
  }));
  return {
    title: 'Tokenising chats with assistant masks',
    json: { bytes, rows, turns, isEqual, results },
    columns: ['system', 'processes', 'time', 'speed', 'beside datasets.map'],
    rows: results.map((one) => [
      ...[one.system, one.processes, show(one.seconds, 1, 's'), show(one.mbPerSecond, 2, 'MB/s')],
      show(one.factor, 2, '×'),
    ]),
    notes: [
      `${(bytes / 1e6).toFixed(0)} MB of chats in ${rows} rows, from the start of Python to tokens and masks on the disk; median of ${turns}.`,
      `Tokens, masks and row lengths of all runs are ${isEqual ? 'equal' : 'NOT EQUAL'}. \`datasets.map\` needs a template with \`{% generation %}\` marks; without them it masks nothing.`,
      'Tokenizer of SmolLM2 (49,152 tokens), one thread a process. Goal: at least as fast with as many processes.',
    ],
  };
}

function makeModel(folder: string, template: string): void {
  mkdirSync(folder);
  const base = join(locateLocal().models, BASE);
  for (const file of TOKENIZER_FILES) copyFileSync(join(base, file), join(folder, file));
  writeFileSync(join(folder, 'chat_template.jinja'), template);
}

async function takeRival({ folder, rows, signal }: Place, processes: number): Promise<Taken> {
  const { python } = locateLocal();
  const cache = join(folder, 'cache');
  const script = join(import.meta.dirname, 'rivals', 'map_tokenize.py');
  const started = Date.now();
  try {
    const { stdout } = await promisify(execFile)(
      python.executable,
      [script, join(folder, 'marked'), rows, String(processes), cache],
      { env: { ...pythonEnvironment(python), OMP_NUM_THREADS: '1', HF_HOME: cache, HF_DATASETS_CACHE: cache }, signal },
    );
    const { ended, digest } = JSON.parse(stdout.trim().split('\n').at(-1) as string) as {
      ended: number;
      digest: string;
    };
    return { seconds: (ended - started) / 1000, digest };
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
}

async function takeAnneal({ folder, rows, signal }: Place, processes: number, template: string): Promise<Taken> {
  const out = join(folder, 'out');
  const files = { name: 'train', rows, out: join(out, 'train.safetensors'), kept: join(out, 'train.jsonl') };
  const started = Date.now();
  const child = startChild({
    python: locateLocal().python,
    folder: out,
    job: {
      ...{ v: PROTOCOL_VERSION, command: 'tokenise', tokenizer: join(folder, template), maxLength: MAX_LENGTH },
      ...{ kind: 'chat', processes, splits: [files], rejected: join(out, 'rejected.jsonl') },
    },
    ...{ signal, graceMs: 1_000, onEvent: () => true },
  });
  requireDone(await child.ended, 'Tokenising');
  const seconds = (Date.now() - started) / 1000;
  const digest = await digestShard(files.out);
  rmSync(out, { recursive: true, force: true });
  return { seconds, digest };
}

const EMPTY = { data_offsets: [0, 0] } as const;

async function digestShard(path: string): Promise<string> {
  const { tensors, start } = await readHeader(path);
  const bytes = readFileSync(path);
  const whole = createHash('sha256');
  for (const name of ['input_ids', 'trainable', 'offsets']) {
    const [from, to] = (tensors[name] ?? EMPTY).data_offsets;
    whole.update(
      createHash('sha256')
        .update(bytes.subarray(start + from, start + to))
        .digest(),
    );
  }
  return whole.digest('hex');
}
