// Says at the end which tests and which files took longest, so that whoever makes the suite longer sees it.
import type { Reporter, TestModule } from 'vitest/node';

const NAMED = 10;
/** What takes less is not worth a line, ms. */
const SLOW_MS = 1_000;

interface Timed {
  name: string;
  ms: number;
}

export default class SlowestReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) =>
      [...module.children.allTests()].map((test) => ({
        name: `${module.relativeModuleId} > ${test.fullName}`,
        ms: test.diagnostic()?.duration ?? 0,
      })),
    );
    const files = modules.map((module) => ({ name: module.relativeModuleId, ms: durationOf(module) }));
    process.stdout.write(`${tableOf('tests', tests)}${tableOf('files', files)}`);
  }
}

/** With what its hooks start, before which the file's own duration begins. */
function durationOf(module: TestModule): number {
  const { collectDuration, duration } = module.diagnostic();
  return collectDuration + duration;
}

function tableOf(what: string, timed: Timed[]): string {
  const slowest = timed
    .filter(({ ms }) => ms >= SLOW_MS)
    .toSorted((a, b) => b.ms - a.ms)
    .slice(0, NAMED);
  const lines = slowest.map(({ name, ms }) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${name}\n`);
  return lines.length === 0 ? '' : `\nSlowest ${what}\n${lines.join('')}`;
}
