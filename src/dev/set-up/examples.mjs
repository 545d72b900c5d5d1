// The example data: made by the scripts in examples/, made anew when a script or its package changes.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { EXAMPLES, PROJECT, PYTHON } from './places.mjs';
import { pinOf } from './python.mjs';
import { digestOf } from './stamps.mjs';
import { runTool } from './tool.mjs';

export const homeAssistant = exampleStep('home-assistant', 'make_home_assistant.py', 'home-assistant-intents');
export const icdChapters = exampleStep('icd-chapters', 'make_icd_chapters.py', 'simple-icd-10-cm');
export const preferences = exampleStep('preferences', 'make_preferences.py', null);

/** @param source the package that its sentences come from, or null */
function exampleStep(name, script, source) {
  const folder = join(EXAMPLES, name);
  const path = join(PROJECT, 'examples', script);
  return {
    name: `example ${name}`,
    stamp: `example-${name}`,
    what: `writing .anneal/examples/${name}`,
    digest: () => digestOf([`file:${path}`, ...(source === null ? [] : [pinOf(source)])]),
    isPresent: () => existsSync(folder) && readdirSync(folder).length > 0,
    async run() {
      const draft = join(EXAMPLES, `.${name}`);
      rmSync(draft, { recursive: true, force: true });
      mkdirSync(EXAMPLES, { recursive: true });
      await runTool(PYTHON, [path, draft], {
        cwd: PROJECT,
        what: `examples/${script}`,
        remedy: 'Delete .anneal/stamps and run the same command again.',
      });
      // A folder that is there is whole: readers never see half of one.
      rmSync(folder, { recursive: true, force: true });
      renameSync(draft, folder);
    },
  };
}
