// What a range of a source is, and by which rules its rows are cleaned. Plain values: they go to a thread as they are.
import type { Spec } from '../../contracts/spec.ts';
import type { CsvHeader } from '../csv.ts';
import type { Mapping } from '../mapping.ts';
import type { FindImage } from '../media/media.ts';
import type { Format } from '../readers.ts';

/** The rules of `data` that a row alone can keep or break. */
export interface RowRules extends Pick<Spec['data'], 'groupBy' | 'filters' | 'privacy' | 'nearDuplicates'> {
  /** Words in a row that will be looked for in training and held-out rows; null = they will not. */
  sharedWords: number | null;
}

export interface RangeOptions {
  /** Index into the snapshot's sources, and the name that people see in the quarantine. */
  source: number;
  name: string;
  format: Format;
  /**
   * Which bytes of the source, and the 1-based physical line on which the first of them lies. `endOffset` null = to the end.
   * The bytes given go on behind `endOffset`, for a record that reaches over it; no more of them are read than it needs.
   * JSONL may be cut anywhere: a line belongs to the range that holds the line end before it. CSV is cut where `planCsvCuts` says.
   * A JSON array is one range.
   */
  startOffset: number;
  endOffset: number | null;
  firstLine: number;
  /** Of a CSV range that does not start its source. */
  header: CsvHeader | null;
  mapping: Mapping;
  rules: RowRules;
  /** Key of pseudonyms; needed where the rules ask for some. */
  pseudonymKey: string | null;
}

/** Files that a range leaves in its folder beside those of its rows (`rows-files`); `bands` and `prints` only where near duplicates and shared words are looked for. */
export const RANGE_FILES = {
  index: 'index.bin',
  bands: 'bands.bin',
  prints: 'prints.bin',
  quarantine: 'quarantine.jsonl',
  profile: 'profile.json',
} as const;

/** Folder of the images that a range's rows hold themselves, each under its digest; absent where there are none. */
export const MEDIA_FOLDER = 'media';

export interface RangeProgress {
  rowsIn: number;
  kept: number;
  bytesRead: number;
}

/** What comes from outside while a range is cleaned. */
export interface RangeContext {
  onProgress?: (progress: RangeProgress) => void;
  signal?: AbortSignal;
  /** Of rows that name images by addresses. */
  findImage?: FindImage;
}
