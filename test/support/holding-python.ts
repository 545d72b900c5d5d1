// A Python for a stack whose trainers wait in a step of the test's choice, so that what is done to them finds them in mid-training, on
// however fast a machine.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { locateProject } from '../../src/dev/stack-layout.ts';

export interface HoldingPython {
  /** For `ANNEAL_PYTHON`. */
  executable: string;
  /**
   * From now on every trainer waits when it comes to this step, until it is killed, told to save, or released. Near the end of a training it
   * costs no time; after some ten seconds there the watchdog takes a trainer for stalled.
   */
  hold(step: number): void;
  release(): void;
}

export function createHoldingPython(project: string, folder: string): HoldingPython {
  const holds = join(folder, 'holds');
  const executable = join(folder, 'holding-python');
  const image = join(project, 'gpu-activity-image');
  mkdirSync(holds, { recursive: true });
  const command = [locateProject(project).python, join(image, 'tests', 'mortal.py'), holds];
  const quoted = command.map((word) => `'${word}'`).join(' ');
  writeFileSync(executable, `#!/bin/sh\nPYTHONPATH='${image}' exec ${quoted} "$@"\n`, { mode: 0o755 });
  const release = () => rmSync(holds, { recursive: true, force: true });
  return {
    executable,
    hold(step) {
      release();
      mkdirSync(holds, { recursive: true });
      writeFileSync(join(holds, `hold-${step}`), '');
    },
    release,
  };
}
