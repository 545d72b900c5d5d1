// `npm run bench -- <name>`: measures one thing about this machine's Anneal, each beside its goal. The last line of standard output is
// one JSON object; what goes on meanwhile is told on standard error.
import { Command, CommanderError, Option } from 'commander';
import { type BenchOptions, type BenchReport, saveMarkdown, toMarkdown } from './report.ts';

type Bench = (options: BenchOptions) => Promise<BenchReport>;

const BENCHES: Record<string, () => Promise<{ run: Bench }>> = {
  goodput: () => import('./goodput.ts'),
  overhead: () => import('./overhead.ts'),
  checkpoint: () => import('./checkpoint.ts'),
  recovery: () => import('./recovery.ts'),
  exactness: () => import('./exactness.ts'),
  faults: () => import('./faults.ts'),
  scaling: () => import('./scaling.ts'),
  splitbrain: () => import('./splitbrain.ts'),
  memory: () => import('./memory.ts'),
  preprocess: () => import('./preprocess.ts'),
  tokenize: () => import('./tokenize.ts'),
};

interface Flags {
  json?: boolean;
  quick?: boolean;
  save?: boolean;
}

const interrupt = new AbortController();
const program = new Command('bench')
  .argument('<name>', Object.keys(BENCHES).join(', '))
  .option('--json', 'nothing but the JSON on standard output')
  .option('--quick', 'fewer rounds, for trying it')
  .addOption(new Option('--save', 'write the table to bench/results/<name>.md').conflicts('quick'))
  .exitOverride()
  .action(runBench);

async function runBench(name: string, { json = false, quick = false, save = false }: Flags): Promise<void> {
  const load = BENCHES[name];
  if (load === undefined)
    return program.error(`There is no bench ${name}; known are ${Object.keys(BENCHES).join(', ')}.`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  const report = await (await load()).run({ quick, signal: interrupt.signal, say });
  const markdown = toMarkdown(report, `npm run bench -- ${name}${quick ? ' --quick' : ''}`);
  if (save) say(`Written to ${saveMarkdown(name, markdown)}.`);
  if (!json) process.stdout.write(`${markdown}\n`);
  process.stdout.write(`${JSON.stringify(report.json)}\n`);
}

try {
  await program.parseAsync();
} catch (error) {
  if (interrupt.signal.aborted) process.exitCode = 130;
  else if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else throw error;
}
