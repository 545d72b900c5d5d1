// What a detector finds in a text, and which of two findings at one place counts.
import type { PiiType } from '../../contracts/privacy-rules.ts';

export interface Finding {
  type: PiiType;
  /** [start, end) in UTF-16 code units. */
  start: number;
  end: number;
  /** The value in one form, however it was written: what equal pseudonyms are made from. */
  value: string;
}

export type Detector = (text: string) => Finding[];

/** Where two overlap, the earlier in this list counts: the stricter its check, the earlier. */
const RANKS: readonly PiiType[] = [
  'secret',
  'email',
  'iban',
  'card',
  'national_id',
  'ip',
  'phone',
  'person',
  'address',
];

/** Findings that do not overlap, in the order of the text. Those that hang together by overlaps are few. */
export function withoutOverlaps(findings: Finding[]): Finding[] {
  if (findings.length < 2) return findings;
  const kept: Finding[] = [];
  let group: Finding[] = [];
  let end = 0;
  for (const finding of findings.toSorted((a, b) => a.start - b.start)) {
    if (finding.start >= end) {
      kept.push(...bestOf(group));
      group = [];
    }
    group.push(finding);
    end = Math.max(end, finding.end);
  }
  return kept.concat(bestOf(group));
}

/** By rank, then the longer one, then the first. */
function bestOf(group: Finding[]): Finding[] {
  if (group.length < 2) return group;
  const ranked = group.toSorted(
    (a, b) => RANKS.indexOf(a.type) - RANKS.indexOf(b.type) || b.end - b.start - (a.end - a.start) || a.start - b.start,
  );
  const best: Finding[] = [];
  for (const finding of ranked) if (best.every((other) => !overlap(finding, other))) best.push(finding);
  return best.sort((a, b) => a.start - b.start);
}

function overlap(a: Finding, b: Finding): boolean {
  return a.start < b.end && b.start < a.end;
}

/** The text with each finding replaced. */
export function replaceFindings(text: string, findings: Finding[], replace: (finding: Finding) => string): string {
  let replaced = '';
  let from = 0;
  for (const finding of findings) {
    replaced += text.slice(from, finding.start) + replace(finding);
    from = finding.end;
  }
  return replaced + text.slice(from);
}
