// The findings of `anneal doctor` as lines: what was found, and the remedy below what is wrong.
import type { Check } from '../../dev/doctor.ts';
import { type Paint, table } from './format.ts';

export function doctorLines(checks: Check[], paint: Paint): string[] {
  const rows = table(checks.map(({ name, ok, found }) => [ok ? paint.green('✓') : paint.red('✗'), name, found]));
  const lines = checks.flatMap(({ remedy }, i) => [
    rows[i] as string,
    ...(remedy ? [`   ${paint.yellow('→')} ${remedy}`] : []),
  ]);
  const wrong = checks.filter(({ ok }) => !ok).length;
  return [...lines, '', wrong === 0 ? 'All is well.' : `${wrong} of ${checks.length} checks need something done.`];
}
