// What a data card is made of: all of it is counted before, nothing is read for it.
import type { PrivacyRules } from '../../contracts/privacy-rules.ts';
import type { Profile } from '../../contracts/profile.ts';
import type { Leakage } from '../../contracts/ranges.ts';
import type { Snapshot } from '../../contracts/records.ts';
import type { Accounts, QuarantinedRow, Split } from '../../contracts/rows.ts';
import type { TokeniseResult } from '../../contracts/trainer-protocol.ts';

export interface CardInput {
  /** Of the spec. */
  name: string;
  method: string;
  run: string | null;
  /** Digest; null of data that were only checked. */
  dataset: string | null;
  snapshot: Snapshot;
  accounts: Accounts;
  /** Of all ranges. */
  profile: Profile;
  /** Rows that the tokeniser rejected, the first few. */
  rejected: QuarantinedRow[];
  fixed: Record<string, number>;
  warned: Record<string, number>;
  /** Findings by type. */
  pii: Record<string, number>;
  privacy: PrivacyRules;
  /** Rows that are nearly the same as an earlier one; null = not looked for. */
  nearFound: number | null;
  leakage: Leakage | null;
  tokens: TokeniseResult | null;
  /** Short rows put into one, each as long as `room`. */
  packing: { rows: number; room: number; fill: number } | null;
  maxLength: number;
  /** Digest of the rules. */
  rules: string;
  /** Digest of the code. */
  code: string;
  /** Columns that were taken out at the reader. */
  dropColumns: string[];
  notes: string[];
  /** Sentence of the gate that refuses the data. */
  blocked: string | null;
  /** The dataset that the same spec made before. */
  previous: { dataset: string; profile: Profile; splits: Record<Split, number>; sources: string[] } | null;
  seconds: number | null;
  workflow: string | null;
}
