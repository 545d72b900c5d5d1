// `anneal plan`: what a run will do, need, take and cost, and every problem at once, before anything is spent.
import { resolve } from 'node:path';
import { EXIT } from '../failures.ts';
import { planLocally } from '../local-plan.ts';
import { createOutput, type Output } from '../output.ts';
import { loadSpec, readYamlFile, type SpecOptions } from '../spec-file.ts';
import { loadSweep } from '../sweep-file.ts';
import { isSweep, planSweep } from '../sweep-plan.ts';
import { planLines, problemLines, sweepPlanLines } from '../views/plan.ts';

export interface PlanOptions extends SpecOptions {
  probe?: boolean;
  json?: boolean;
}

export async function plan(file: string | undefined, options: PlanOptions): Promise<number> {
  const output = createOutput(options);
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  if (file !== undefined && isSweep(readYamlFile(resolve(file), 'Spec'))) return await planOfSweep(file, output, say);
  const spec = loadSpec(file, options, process.cwd());
  const made = await planLocally(spec, { probe: options.probe ?? false, say });
  if (output.json) output.result(made);
  else for (const line of planLines(made, output.width(), output.paint)) output.say(line);
  return made.problems.length === 0 ? EXIT.done : EXIT.usage;
}

async function planOfSweep(file: string, output: Output, say: (line: string) => void): Promise<number> {
  const made = await planSweep(loadSweep(file, process.cwd()), { probe: false, say });
  const { problems } = made;
  if (output.json) output.result(made);
  else for (const line of sweepPlanLines(made, output.width(), output.paint)) output.say(line);
  if (!output.json) for (const line of problemLines(problems, output.width(), output.paint)) output.say(line);
  return problems.length === 0 ? EXIT.done : EXIT.usage;
}
