// What a drill found, as lines.
import { formatMs, type Paint, table } from './format.ts';

export interface DrillReport {
  part: string;
  /** SHA-256 of the weights of the run that nothing was done to. */
  undisturbed: string;
  kills: {
    atStep: number;
    /** From the kill until the replacement ran, ms. */
    detectedMs: number;
    stepsLost: number;
    nextNewStepMs: number;
    /** Of the weights that the disturbed run ended with. */
    sha256: string;
    equal: boolean;
  }[];
  equal: boolean;
}

export function drillLines(report: DrillReport, paint: Paint): string[] {
  const titles = ['KILLED', 'AT STEP', 'NOTICED AFTER', 'STEPS LOST', 'NEXT NEW STEP AFTER'].map((title) =>
    paint.dim(title),
  );
  const rows = report.kills.map((kill) => [
    report.part,
    String(kill.atStep),
    formatMs(kill.detectedMs),
    String(kill.stepsLost),
    formatMs(kill.nextNewStepMs),
  ]);
  const ended = report.kills[0]?.sha256 ?? '';
  const verdict = report.equal
    ? paint.green(`The weights are the same, bit for bit: ${ended}.`)
    : paint.red(`The weights differ: ${ended} instead of ${report.undisturbed}.`);
  return [...table([titles, ...rows], [1, 2, 3, 4]), verdict, ''];
}
