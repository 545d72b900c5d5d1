// `anneal plan`: what a run will do, need, take and cost, and every problem at once, before anything is spent.
import { EXIT } from '../failures.ts';
import { planLocally } from '../local-plan.ts';
import { createOutput } from '../output.ts';
import { loadSpec, type SpecOptions } from '../spec-file.ts';
import { planLines } from '../views/plan.ts';

export interface PlanOptions extends SpecOptions {
  probe?: boolean;
  json?: boolean;
}

export async function plan(file: string | undefined, options: PlanOptions): Promise<number> {
  const output = createOutput(options);
  const spec = loadSpec(file, options, process.cwd());
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  const made = await planLocally(spec, { probe: options.probe ?? false, say });
  if (output.json) output.result(made);
  else for (const line of planLines(made, output.width(), output.paint)) output.say(line);
  return made.problems.length === 0 ? EXIT.done : EXIT.usage;
}
