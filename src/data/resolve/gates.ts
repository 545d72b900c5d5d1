// The gates between the data and the training: each fails the run with one sentence that says what, how much, where and what to do.
import { AnnealError } from '../../contracts/failure.ts';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import type { Snapshot } from '../../contracts/records.ts';
import { type Accounts, type DropCode, ROW_KINDS } from '../../contracts/rows.ts';
import type { Spec } from '../../contracts/spec.ts';
import { addCounts, requireRows, requireSources } from '../accounts.ts';
import { requireNoErrors } from '../rules.ts';
import { sourceNames } from '../source-names.ts';

/** Rows that are taken out because the spec asks for it: no fault of the source. */
const ASKED_FOR: ReadonlySet<string> = new Set<DropCode>([
  ...(['too_short', 'too_long_text', 'lang_excluded', 'pii_dropped', 'pii_blocked'] as const),
  ...(['near_duplicate', 'contaminated'] as const),
]);

/** Lines of the worst code that are named. */
const LINES_MAX = 3;

export interface GateInput {
  spec: Spec;
  snapshot: Snapshot;
  pieces: CleanedPiece[];
  accounts: Accounts;
  /** Judged answers that stay, by their label. */
  labels: { wanted: number; unwanted: number };
}

/** The sentence of the first gate that fails, or null. */
export function blockedBy(input: GateInput): string | null {
  return refusalOf(() => requireGates(input));
}

/** What the checks say of data that they refuse, or null. */
export function refusalOf(checks: () => void): string | null {
  try {
    checks();
    return null;
  } catch (error) {
    if (error instanceof AnnealError && error.kind === 'data_rejected') return error.message;
    throw error;
  }
}

function requireGates({ spec, snapshot, pieces, accounts, labels }: GateInput): void {
  const faults = snapshot.sources.map(
    (_, i) => pieces.find(({ source, counts }) => source === i && counts.firstFault !== null)?.counts.firstFault,
  );
  requireSources(
    accounts,
    spec.train.method,
    faults.map((fault) => fault ?? undefined),
  );
  const first = faults.find((fault) => fault !== undefined);
  requireRows(accounts, spec.data.split, first === undefined ? '' : `The first: ${first}.`);
  if (ROW_KINDS[spec.train.method] === 'judged') requireBothLabels(labels);
  const lines = badLines(snapshot, pieces);
  requireNoErrors(spec.data.rules, accounts.dropped, lines);
  requireNoBlocked(accounts, pieces);
  requireShare(spec, accounts, lines);
}

/** Also asked once the tokeniser has had its say. */
export function requireShare(
  { data: { gates } }: Spec,
  accounts: Accounts,
  lines: Record<string, string[]> = {},
): void {
  const { rowsIn, kept, dropped } = accounts;
  if (kept < gates.minRows) {
    throw new AnnealError(
      'data_rejected',
      `${kept} rows are kept, fewer than the ${gates.minRows} of \`data.gates.minRows\`; add rows, or lower the gate.`,
    );
  }
  const faults = Object.entries(dropped).filter(([code]) => !ASKED_FOR.has(code));
  const count = faults.reduce((sum, [, n]) => sum + n, 0);
  if (count <= gates.maxQuarantined * rowsIn) return;
  const [code, n] = faults.reduce((worst, fault) => (fault[1] > worst[1] ? fault : worst));
  const places = (lines[code] ?? []).slice(0, LINES_MAX);
  throw new AnnealError(
    'data_rejected',
    `${count} of ${rowsIn} rows (${percent(count / rowsIn)}) were dropped, more than the ${percent(gates.maxQuarantined)} of \`data.gates.maxQuarantined\`; ` +
      `most for ${code} (${n}${places.length === 0 ? '' : `: ${places.join(', ')}`}). Mend the sources, or raise the gate.`,
  );
}

function requireNoBlocked({ dropped }: Accounts, pieces: CleanedPiece[]): void {
  const blocked = dropped.pii_blocked ?? 0;
  if (blocked === 0) return;
  const found = Object.entries(addCounts(pieces.map(({ counts }) => counts.pii)));
  const types = found.map(([type, n]) => `${type} ${n}`).join(', ');
  throw new AnnealError(
    'data_rejected',
    `${blocked} rows hold personal data or secrets that \`data.privacy\` blocks (found: ${types}); take them out of the sources, or set the types to mask, pseudonymise or drop.`,
  );
}

/** With one label only there is nothing to tell apart. */
function requireBothLabels({ wanted, unwanted }: GateInput['labels']): void {
  if (wanted > 0 && unwanted > 0) return;
  throw new AnnealError(
    'data_rejected',
    `All ${wanted + unwanted} answers have the label ${wanted > 0}, and \`train.method: kto\` learns the difference; add answers with the other label, or set \`train.method: sft\`.`,
  );
}

/** The first lines of each code, with their files. */
function badLines({ sources }: Snapshot, pieces: CleanedPiece[]): Record<string, string[]> {
  const lines: Record<string, string[]> = {};
  const names = sourceNames(sources);
  for (const { source, counts } of pieces) {
    const name = names[source] ?? '';
    for (const [code, numbers] of Object.entries(counts.firstBadLines)) {
      lines[code] ??= [];
      if (lines[code].length < LINES_MAX) lines[code].push(...numbers.map((line) => `${name} line ${line}`));
    }
  }
  return lines;
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(1))} %`;
}
