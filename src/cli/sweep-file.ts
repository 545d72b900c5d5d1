// A sweep as a user writes it: a YAML or JSON file whose `spec` is a spec or the path of one, relative to the file.
import { dirname, resolve } from 'node:path';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { SweepInput } from '../contracts/sweep.ts';
import { loadSpec, readYamlFile, resolveSources } from './spec-file.ts';

/** @throws AnnealError `bad_request`. What the fields are is checked by `parseSweep`. */
export function loadSweep(file: string, workingFolder: string): SweepInput {
  const path = resolve(workingFolder, file);
  const folder = dirname(path);
  const input = readYamlFile(path, 'Sweep');
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new AnnealError(
      'bad_request',
      `Sweep file ${path} must hold an object with \`name\`, \`spec\` and \`grid\` or \`trials\`.`,
    );
  }
  const { spec, ...rest } = input as Record<string, unknown>;
  const problems: Problem[] = [];
  const whole = typeof spec === 'string' ? loadSpec(spec, {}, folder) : resolveSources(spec, folder, problems);
  if (problems.length === 0) return { ...rest, spec: whole } as SweepInput;
  const lines = problems.map((problem) => `\`spec.${problem.path}\` ${problem.message}`);
  throw new AnnealError('bad_request', `The sweep's spec is wrong: ${lines.join('; ')}.`, { problems });
}
