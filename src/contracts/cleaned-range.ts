// What cleaning one range of a source gives besides its files: counts that add up, and what is told of its faults.
import { z } from 'zod';

const Count = z.int().min(0);
const Counts = z.record(z.string(), Count);

/** rowsIn = kept + the sum of `dropped`. Duplicates are not known here: `kept` is what a range offers. */
export const CleanedRangeSchema = z.object({
  rowsIn: Count,
  kept: Count,
  /** By code. */
  dropped: Counts,
  /** Kept rows that a rule mended, and that a rule only warned of, by code. */
  fixed: Counts,
  warned: Counts,
  /** Findings in kept rows and in those dropped for them, by type. */
  pii: Counts,
  /** The first lines of each code, dropped or warned of. */
  firstBadLines: z.record(z.string(), z.array(z.int().min(1))),
  /** Sentence of the first row that was dropped. */
  firstFault: z.string().nullable(),
  /** Lines of the quarantine file; more are only counted. */
  quarantined: Count,
  /** Rows without the field `data.groupBy`. */
  withoutGroup: Count,
  /** Judged answers by their label. */
  labels: z.object({ wanted: Count, unwanted: Count }),
  /** What the header of a CSV said. */
  header: z.object({ delimiter: z.enum([',', ';', '\t']), columns: z.array(z.string()) }).nullable(),
  /** Bytes of the range's own records. */
  sizeBytes: Count,
  /** Rows that could not take the fast way. */
  slowRows: Count,
});
export type CleanedRange = z.infer<typeof CleanedRangeSchema>;
