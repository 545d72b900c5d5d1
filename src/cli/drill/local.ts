// What a drill without a stack runs on: the Python and the models that the set-up made, or those that the caller's variables name.
import { resolve } from 'node:path';
import { locateProject } from '../../dev/stack-layout.ts';
import { PROJECT_FOLDER } from '../../telemetry/code-identity.ts';
import type { PythonConfig } from '../../trainer/child.ts';

const PASSED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TMPDIR', 'LD_LIBRARY_PATH', 'CUDA_VISIBLE_DEVICES'];

/** @param env the caller's; Python sees nothing of it that is a credential. */
export function locateLocal(env: NodeJS.ProcessEnv = process.env): { python: PythonConfig; models: string } {
  const project = locateProject(PROJECT_FOLDER);
  const passed = PASSED.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  return {
    python: {
      executable: env.ANNEAL_PYTHON || project.python,
      packageFolder: resolve(PROJECT_FOLDER, 'gpu-activity-image'),
      environment: Object.fromEntries(passed) as Record<string, string>,
    },
    models: resolve(env.ANNEAL_MODELS || project.models),
  };
}
