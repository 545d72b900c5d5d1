// What a spec may ask of the rows besides their shape: personal data, length, language, near duplicates, contamination.
import { z } from 'zod';

/** `person` and `address` are found by Presidio only; the others have detectors of their own. */
export const PII_TYPES = [
  'email',
  'phone',
  'card',
  'iban',
  'ip',
  'national_id',
  'secret',
  'person',
  'address',
] as const;
export type PiiType = (typeof PII_TYPES)[number];

/**
 * `off` = not looked for, `warn` = counted, `mask` = `<EMAIL>` in its place, `pseudonymise` = `<EMAIL_3f9a2c>`, the same for the same
 * value, `drop` = the row goes, `block` = the row goes and the stage fails once all rows are counted.
 */
export const PII_ACTIONS = ['off', 'warn', 'mask', 'pseudonymise', 'drop', 'block'] as const;
export type PiiAction = (typeof PII_ACTIONS)[number];

const PrivacyFieldsSchema = z.strictObject({
  /** For every type that `types` does not name. */
  action: z.enum(PII_ACTIONS).default('warn'),
  types: z.partialRecord(z.enum(PII_TYPES), z.enum(PII_ACTIONS)).default({}),
  /** Values that are left alone, and domains (`example.org`) whose e-mail addresses are. */
  allow: z.array(z.string().min(1).max(320)).max(10_000).default([]),
  /** Countries (ISO 3166) in which a phone number without country code is looked for; each costs time. */
  phoneRegions: z
    .array(z.string().regex(/^[A-Z]{2}$/, 'must be a country of two capital letters, such as DE'))
    .max(20)
    .default(['US', 'GB', 'DE', 'FR', 'ES', 'IT']),
  /** Whether addresses of private networks count as personal. */
  privateAddresses: z.boolean().default(false),
  /** Presidio's analyzer, such as `http://127.0.0.1:5002`, for names and addresses; null = they are not looked for. */
  presidio: z
    .url({ protocol: /^https?$/ })
    .max(2048)
    .refine((url) => !/\/\/[^/]*@/.test(url), 'must hold no password, because specs are kept in the history')
    .nullable()
    .default(null),
  /** The language that Presidio is told. */
  presidioLanguage: z
    .string()
    .regex(/^[a-z]{2}$/, 'must be a language of two letters, such as en')
    .default('en'),
});
/** What only Presidio finds cannot be asked of nobody. */
export const PrivacySchema = PrivacyFieldsSchema.superRefine(({ types, presidio }, context) => {
  for (const type of ['person', 'address'] as const) {
    if (presidio !== null || types[type] === undefined || types[type] === 'off') continue;
    const message = `is found by Presidio only; set \`data.privacy.presidio\` to its address, or leave \`types.${type}\` out`;
    context.addIssue({ code: 'custom', path: ['types', type], message });
  }
});
export type PrivacyRules = z.infer<typeof PrivacySchema>;

/** Languages (ISO 639-1) that can be told apart: those of eld. */
export const LANGUAGES = [
  ...(['am', 'ar', 'az', 'be', 'bg', 'bn', 'ca', 'cs', 'da', 'de', 'el', 'en', 'es', 'et', 'eu'] as const),
  ...(['fa', 'fi', 'fr', 'gu', 'he', 'hi', 'hr', 'hu', 'hy', 'is', 'it', 'ja', 'ka', 'kn', 'ko'] as const),
  ...(['ku', 'lo', 'lt', 'lv', 'ml', 'mr', 'ms', 'nl', 'no', 'or', 'pa', 'pl', 'pt', 'ro', 'ru'] as const),
  ...(['sk', 'sl', 'sq', 'sr', 'sv', 'ta', 'te', 'th', 'tl', 'tr', 'uk', 'ur', 'vi', 'yo', 'zh'] as const),
] as const;

export const FiltersSchema = z.strictObject({
  /** Characters of the row's texts together, without system message and tools; null = no limit. */
  minChars: z.int().min(1).max(100_000).nullable().default(null),
  maxChars: z.int().min(1).max(16_777_216).nullable().default(null),
  /** Languages that stay; none = all. A row too short to tell stays. Costs about 0.1 ms a row. */
  languages: z.array(z.enum(LANGUAGES)).max(LANGUAGES.length).default([]),
});
export type FilterRules = z.infer<typeof FiltersSchema>;

export const NearDuplicatesSchema = z.strictObject({
  /** `warn` = counted, `drop` = only the first of the rows that are nearly the same stays. */
  action: z.enum(['off', 'warn', 'drop']).default('off'),
  /** Share of common word 5-grams (Jaccard) from which two rows are nearly the same; below 0.7 most pairs are missed. */
  threshold: z.number().min(0.5).max(1).default(0.8),
});

export const DecontaminateSchema = z.strictObject({
  /** Evaluation suites, uris as of sources, whose texts must not be trained on. */
  against: z.array(z.string().min(1).max(2048)).max(50).default([]),
  /** Words in a row that a training row and an evaluation must share. */
  ngram: z.int().min(8).max(13).default(13),
  /**
   * Training rows that share so many words in a row with a held-out row of the dataset itself: `warn` = counted, `quarantine` = not
   * trained on. Words that more than ten training rows share are a template, and told but not counted.
   */
  heldOut: z.enum(['off', 'warn', 'quarantine']).default('warn'),
});
