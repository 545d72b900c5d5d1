// The command line: which commands there are and what they take. Each command's code is loaded when it runs, so that
// `--help` answers at once.
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { HOSTS_MAX, PROCESSES_MAX } from '../contracts/gang-size.ts';
import { CliError, describeFailure, EXIT, failureLines } from './failures.ts';

/** Columns of the help text. */
const HELP_WIDTH = 110;
/** In a cell of the matrix: the supervisor takes 20 in a row without a step between them for somebody who means it. */
const KILLS_MAX = 19;

/** Runs the command line and gives the exit code. */
export async function main(argv: string[]): Promise<number> {
  let exitCode: number = EXIT.done;
  const program = createProgram((code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(argv.length === 0 ? ['--help'] : argv, { from: 'user' });
    return exitCode;
  } catch (error) {
    return fail(error, argv.includes('--json'));
  }
}

type SetExit = (code: number) => void;

function createProgram(setExit: SetExit): Command {
  const program = new Command('anneal')
    .description('Durable fine-tuning of language models: raw data to a served, evaluated, registered model.')
    .version(readVersion())
    .configureHelp({
      subcommandTerm: (sub) => [sub.name(), sub.usage().replace('[options]', '').trim()].join(' ').trim(),
    })
    .configureOutput({ getOutHelpWidth: () => HELP_WIDTH, getErrHelpWidth: () => HELP_WIDTH })
    .exitOverride();
  addStackCommands(program, setExit);
  addRunCommands(program, setExit);
  addDataCommands(program, setExit);
  addModelCommands(program, setExit);
  addScheduleCommands(program, setExit);
  addPoolCommands(program, setExit);
  addDrill(program, setExit);
  return program;
}

function addStackCommands(program: Command, setExit: SetExit): void {
  withPorts(command(program, 'up', 'start the embedded stack: Temporal, an S3 store, the workers, the gateway'))
    .option('-d, --detach', 'leave it running in the background')
    .action(async (options) => setExit(await (await import('./commands/stack.ts')).up(options)));
  command(program, 'down', 'stop the embedded stack; its state stays').action(async (options) =>
    setExit(await (await import('./commands/stack.ts')).down(options)),
  );
  command(program, 'doctor', 'check the machine, the set-up and the running stack').action(async (options) =>
    setExit(await (await import('./commands/stack.ts')).doctor(options)),
  );
  withPorts(command(program, 'demo', 'train, evaluate and serve a small model on real data, from nothing'))
    .option('--exit', 'stop the stack at the end, if this command started it')
    .action(async (options) => setExit(await (await import('./commands/demo.ts')).demo(options)));
}

function addRunCommands(program: Command, setExit: SetExit): void {
  withSpec(command(program, 'run [spec]', 'start a run, or attach to the one that does the same'))
    .option('--wait', 'follow it to its end; the exit code is 0, 1, 10 (gate failed) or 11 (its budget is used up)')
    .option('--keep-waiting', 'with --wait: until somebody gives a run more whose budget is used up')
    .option('-y, --yes', 'on a terminal, start it without asking where the plan has no problem')
    .option('--no-plan', NO_PLAN)
    .action(async (spec, options) => setExit(await (await import('./commands/run.ts')).run(spec, options)));
  withSpec(
    command(program, 'plan [spec]', 'what a run, or a sweep, will do, need, take and cost, before anything is spent'),
  )
    .option('--probe', 'measure memory and speed by two short trainings on this machine')
    .action(async (spec, options) => setExit(await (await import('./commands/plan.ts')).plan(spec, options)));
  command(program, 'status [run]', 'what is known of a run; the newest where none is named').action(
    async (run, options) => setExit(await (await import('./commands/runs.ts')).status(run, options)),
  );
  command(program, 'watch [run]', 'follow a run live; Ctrl-C leaves it going')
    .option('--keep-waiting', 'also while its budget is used up')
    .action(async (run, options) => setExit(await (await import('./commands/runs.ts')).watch(run, options)));
  command(program, 'compare <run-or-sweep...>', 'runs side by side: what differs in their specs, and what came of it')
    .option('--to <folder>', 'write their learning curves: for TensorBoard, and as CSV')
    .action(async (runs, options) => setExit(await (await import('./commands/compare.ts')).compare(runs, options)));
  command(program, 'ps', 'list runs, newest first')
    .option('-n, --limit <n>', 'at most so many', wholeNumber(1, 1000), 20)
    .action(async (options) => setExit(await (await import('./commands/runs.ts')).ps(options)));
  command(program, 'pause <run>', 'save, free the GPU and wait until it is resumed')
    .option('--reason <text>', 'why; shown with the run')
    .option('--wait', 'wait until it is saved')
    .action(async (run, options) => setExit(await (await import('./commands/pauses.ts')).pause(run, options)));
  withBudget(
    command(program, 'resume <run>', 'go on with a paused run, or start an ended one again; what is done is kept'),
  )
    .option(
      '--hosts <n>',
      'go on with so many hosts, also where it is not paused; the effective batch stays',
      wholeNumber(1, HOSTS_MAX),
    )
    .option('--processes <n>', 'and so many ranks on each', wholeNumber(1, PROCESSES_MAX))
    .option('--wait', 'follow it to its end')
    .option('--keep-waiting', 'with --wait: also while its budget is used up')
    .action(async (run, options) => setExit(await (await import('./commands/pauses.ts')).resume(run, options)));
  withBudget(
    command(program, 'budget <run>', 'change what a training may use; one that waits for more goes on'),
  ).action(async (run, options) => setExit(await (await import('./commands/pauses.ts')).budget(run, options)));
  command(program, 'sweep <file>', 'try variants of a spec; at each rung the best go on, the others are paused')
    .option('--wait', 'follow it to its end')
    .option('--keep-waiting', 'with --wait: also while its budget, or those of its trials, are used up')
    .option('-y, --yes', 'on a terminal, start it without asking where the plan has no problem')
    .option('--no-plan', NO_PLAN)
    .action(async (file, options) => setExit(await (await import('./commands/sweep.ts')).sweep(file, options)));
  command(program, 'cancel <run>', 'stop a run; it saves a checkpoint first')
    .option('--wait', 'wait until it has stopped')
    .action(async (run, options) => setExit(await (await import('./commands/runs.ts')).cancel(run, options)));
}

function addDataCommands(program: Command, setExit: SetExit): void {
  const data = program.command('data').description('look at data before and after a run').exitOverride();
  withSettings(
    command(data, 'check [source...]', 'what a run would keep and drop of sources, and why, without training'),
  )
    .option('--spec <file>', 'by the rules of this spec, and of its sources where none is named')
    .option('--card <file>', 'write the data card: .html, .md or .json')
    .action(async (sources, options) =>
      setExit(await (await import('./commands/data-check.ts')).check(sources, options)),
    );
  command(data, 'card <run-or-dataset>', 'the data card of a dataset: on the terminal, or as a file')
    .option('--to <file>', '.html, .md or .json')
    .action(async (what, options) => setExit(await (await import('./commands/data-card.ts')).card(what, options)));
  command(data, 'import', 'turn the dataset description of another tool into the `data` of a spec')
    .requiredOption('--from <file>', 'dataset_info.json of LLaMA-Factory, or a configuration of Axolotl')
    .option('--name <dataset>', 'of a dataset_info.json: only this one')
    .action(async (options) => setExit(await (await import('./commands/data-import.ts')).importData(options)));
  const quarantine = data.command('quarantine').description('rows that were dropped').exitOverride();
  withCode(command(quarantine, 'show <run-or-dataset>', 'why rows were dropped, and where they are'))
    .option('-n, --limit <n>', 'at most so many', wholeNumber(1, 100_000), 20)
    .action(async (what, options) =>
      setExit(await (await import('./commands/data-quarantine.ts')).showQuarantine(what, options)),
    );
  withCode(command(quarantine, 'export <run-or-dataset>', 'write dropped rows to a file, one JSON object a line'))
    .requiredOption('--to <file>', 'a .jsonl file')
    .option('--original', 'with each row as it stands in its source, with whatever is personal in it')
    .action(async (what, options) =>
      setExit(await (await import('./commands/data-quarantine.ts')).exportQuarantine(what, options)),
    );
}

function withCode(target: Command): Command {
  return target.option('--code <code>', 'only rows that were dropped under this code, such as invalid_json');
}

function addModelCommands(program: Command, setExit: SetExit): void {
  command(
    program,
    'models [name]',
    'list models, the versions of one, or (`support@3`) what a version continues',
  ).action(async (name, options) => setExit(await (await import('./commands/models.ts')).models(name, options)));
  command(program, 'export <run-or-model> [version]', 'write the weights of a run or a model to a folder')
    .requiredOption('--to <folder>', 'an empty folder, or one that does not exist')
    .option('--only <name...>', 'adapter, model, best, final, merged-best, merged-final; all that there are without it')
    .action(async (what, version, options) =>
      setExit(await (await import('./commands/export.ts')).exportModel(what, version, options)),
    );
  command(program, 'chat [endpoint]', 'talk to a served model')
    .option('-m, --message <text>', 'ask once and end')
    .option('--memory', 'send earlier turns along')
    .action(async (endpoint, options) => setExit(await (await import('./commands/chat.ts')).chat(endpoint, options)));
  command(program, 'logs [part-or-run]', 'logs of the embedded stack: of one part, or of all that names a run')
    .option('-n, --lines <n>', 'at most so many', wholeNumber(1, 100_000), 40)
    .option('-f, --follow', 'go on as they grow')
    .action(async (what, options) => setExit(await (await import('./commands/logs.ts')).logs(what, options)));
}

function addScheduleCommands(program: Command, setExit: SetExit): void {
  const schedule = program.command('schedule').description('retrain periodically').exitOverride();
  withSettings(command(schedule, 'create <id>', 'train a spec by interval or cron'))
    .option('--spec <file>', 'YAML or JSON file; the demo where none is given')
    .option('--every <interval>', 'such as 12h or 1d')
    .option('--cron <expression>', 'such as "0 3 * * 1", in UTC')
    .option('--paused', 'create it switched off')
    .option('-y, --yes', 'on a terminal, create it without asking where the plan has no problem')
    .option('--no-plan', NO_PLAN)
    .action(async (id, options) => setExit(await (await import('./commands/schedule.ts')).createSchedule(id, options)));
  command(schedule, 'list', 'list schedules').action(async (options) =>
    setExit(await (await import('./commands/schedule.ts')).listSchedules(options)),
  );
  const actions = {
    trigger: 'start one now, unless its last one is still running',
    pause: 'switch it off',
    unpause: 'switch it on',
    delete: 'remove it; runs that it started go on',
  } as const;
  for (const [action, text] of Object.entries(actions) as [keyof typeof actions, string][]) {
    command(schedule, `${action} <id>`, text).action(async (id, options) =>
      setExit(await (await import('./commands/schedule.ts')).actOnSchedule(action, id, options)),
    );
  }
}

function addPoolCommands(program: Command, setExit: SetExit): void {
  const pool = command(program, 'pool', 'hosts, gangs, waiting requests and quotas of the GPU pool').action(
    async (options) => setExit(await (await import('./commands/pool.ts')).pool(options)),
  );
  command(pool, 'quota <team> <gpus>', 'how many GPUs a team may hold at once; `none` = no limit').action(
    // `pool` itself takes `--json`, wherever it stands.
    async (team, gpus, _options, self: Command) =>
      setExit(await (await import('./commands/pool.ts')).setQuota(team, gpus, self.optsWithGlobals())),
  );
}

function addDrill(program: Command, setExit: SetExit): void {
  command(program, 'drill', 'kill parts in the middle of a training and check that the weights come out the same')
    .addOption(
      new Option('--kill <part...>', 'in a stack of its own, what is killed')
        .choices(['trainer', 'worker', 'temporal', 'store'])
        .conflicts('matrix'),
    )
    .option('--times <n>', 'with --kill: kills in a run', wholeNumber(1, 100), 1)
    .option('--base <model>', 'with --kill: base model, smollm2-135m or tiny', 'smollm2-135m')
    .option('--matrix', 'every configuration: trainers killed again and again, weights and logs compared')
    .option('--kills <n>', 'with --matrix: kills in a cell', wholeNumber(1, KILLS_MAX), 10)
    .option('--cell <name...>', 'with --matrix: only these cells')
    .option('--seed <n>', 'chooses the moments', wholeNumber(0, 2 ** 32 - 1), 0)
    .action(async (options) => {
      if (options.matrix) setExit(await (await import('./commands/matrix.ts')).matrix(options));
      else if (options.kill) setExit(await (await import('./commands/drill.ts')).drill(options));
      else throw new CliError('usage', 'Say what is drilled: `--kill <part>` or `--matrix`.', EXIT.usage);
    });
}

const NO_PLAN = 'start it without a plan: what cannot work shows when it is reached';

function command(parent: Command, usage: string, description: string): Command {
  return parent.command(usage).description(description).option('--json', 'write JSON for programs').exitOverride();
}

function withPorts(target: Command): Command {
  const port = wholeNumber(1, 65_535);
  return target
    .option('--temporal-port <port>', 'gRPC of Temporal (default: 7233)', port)
    .option('--web-ui-port <port>', 'Web UI of Temporal (default: 8233)', port)
    .option('--store-port <port>', 'S3 (default: 8333)', port)
    .option('--gateway-port <port>', 'OpenAI-shaped API (default: 8080)', port);
}

function withBudget(target: Command): Command {
  const amount = (text: string) => {
    const value = Number(text);
    if (Number.isFinite(value) && value > 0) return value;
    throw new InvalidArgumentError('It must be a number above 0.');
  };
  return target
    .option('--gpu-hours <n>', 'hours of one GPU, over all attempts', amount)
    .option('--cost-usd <n>', 'at the price per GPU hour', amount)
    .option('--price-per-gpu-hour <n>', 'in dollars', amount)
    .option('--deadline <when>', 'such as 2027-01-31T18:00:00Z, or 8h from the run’s start')
    .option('--reason <text>', 'why; shown with the run');
}

const collect = (value: string, before: string[] = []) => [...before, value];

function withSettings(target: Command): Command {
  return target.option(
    '--set <path=value>',
    'set a field of the spec, such as train.epochs=2; may be repeated',
    collect,
  );
}

function withSpec(target: Command): Command {
  return withSettings(target)
    .option('--source <uri>', "read this instead of the spec's sources; may be repeated", collect)
    .option('--name <name>', 'name of the run, the model and the endpoint')
    .option('--team <name>', 'whose turn it takes where runs wait for a GPU')
    .option('--priority <n>', '1 goes first, 5 last (default: 3)', wholeNumber(1, 5));
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

function fail(error: unknown, json: boolean): number {
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done;
  const known =
    error instanceof CommanderError ? new CliError('usage', error.message.replace(/^error: /, ''), EXIT.usage) : error;
  const { exitCode, ...failure } = describeFailure(known);
  if (json) process.stdout.write(`${JSON.stringify({ error: failure })}\n`);
  // Commander has written its own sentence already.
  else if (!(error instanceof CommanderError)) process.stderr.write(`${failureLines(failure).join('\n')}\n`);
  if (process.env.ANNEAL_LOG_LEVEL === 'debug' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return exitCode;
}

function readVersion(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** The reader of a pipe (`anneal ps | head`) may leave early. */
function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  process.exit(EXIT.done);
}

if (import.meta.main) {
  process.stdout.on('error', ignoreClosedPipe);
  process.exitCode = await main(process.argv.slice(2));
}
