// Fails a dataset for rows that break a rule which its `rules` make an error. Which rows, was told row by row before.
import { AnnealError } from '../contracts/failure.ts';
import type { DropCode } from '../contracts/rows.ts';
import type { Rules } from '../contracts/rules.ts';

/**
 * @param dropped rows of all sources by code.
 * @param firstBadLines some of their lines by code.
 * @throws AnnealError `data_rejected` naming every such code at once.
 */
export function requireNoErrors(
  rules: Rules,
  dropped: Readonly<Record<string, number>>,
  firstBadLines: Readonly<Record<string, readonly (string | number)[]>>,
): void {
  const broken = (Object.entries(rules) as [DropCode, string][])
    .filter(([code, policy]) => policy === 'error' && (dropped[code] ?? 0) > 0)
    .map(([code]) => `${code} ${dropped[code]}${linesOf(firstBadLines[code] ?? [])}`);
  if (broken.length === 0) return;
  throw new AnnealError(
    'data_rejected',
    `Rows break rules that \`data.rules\` make errors: ${broken.join(', ')}; mend them (\`anneal data quarantine show\` tells each), or set these rules to quarantine.`,
  );
}

function linesOf(lines: readonly (string | number)[]): string {
  return lines.length === 0 ? '' : ` (first lines ${lines.slice(0, 3).join(', ')})`;
}
