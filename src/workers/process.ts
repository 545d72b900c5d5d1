// What every process of the product does at its edges: says when it is ready, hands Python its environment, ends with one sentence.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Environment } from '../contracts/environment.ts';
import { PROJECT_FOLDER } from '../telemetry/code-identity.ts';
import type { PythonConfig } from '../trainer/child.ts';

/** Variables that Python needs to run; it gets no others, so no credentials and no addresses. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'LANG',
  'LC_ALL',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'CUDA_VISIBLE_DEVICES',
  'NVIDIA_VISIBLE_DEVICES',
];

export function pythonFrom(environment: Environment): PythonConfig {
  const visible = PASSED_ON.flatMap((key) => {
    const value = process.env[key];
    return value === undefined ? [] : [[key, value] as const];
  });
  return {
    executable: environment.ANNEAL_PYTHON,
    packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
    environment: Object.fromEntries(visible),
  };
}

/** Whoever started this process may wait for the file. */
export function sayReady(): void {
  const file = process.env.ANNEAL_READY_FILE;
  if (!file) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, String(process.pid));
}

/** Ends the process with one sentence when it cannot start or breaks. */
export function orExit(running: Promise<void>): void {
  running.then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(1);
    },
  );
}
