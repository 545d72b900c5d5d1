// What becomes of a row that breaks a rule: one policy per code, and which policies a code can have.
import { z } from 'zod';
import { DROP_CODES, type DropCode } from './rows.ts';

/**
 * `quarantine` drops the row and tells of it, `error` does the same and fails the stage once all rows were read, `fix` mends the row and
 * counts it (a row that cannot be mended is quarantined), `warn` keeps the row as it is and counts it.
 */
export const POLICIES = ['error', 'quarantine', 'fix', 'warn'] as const;
export type Policy = (typeof POLICIES)[number];
export type Rules = Partial<Record<DropCode, Policy>>;

/** Codes with a mend that leaves no doubt. */
const FIXABLE: readonly DropCode[] = [
  'invalid_utf8',
  'wrong_type',
  'unknown_role',
  'empty_content',
  'bad_turn_order',
  'last_not_assistant',
  'bad_weight',
  'not_one_answer',
  'mojibake',
  'trailing_space',
];

/** Codes whose rows can be trained on as they are. */
const WARNABLE: readonly DropCode[] = [
  'empty_content',
  'bad_turn_order',
  'last_not_assistant',
  'tool_call_without_result',
  'tool_result_without_call',
  'bad_tool_schema',
  'scores_contradict',
  'mojibake',
  'trailing_space',
];

/** Looked for only where `data.rules` names them: most rows that show them are meant so. */
export const ASKED_CODES: readonly DropCode[] = ['mojibake', 'trailing_space'];

/** Of a code that `data.rules` does not name. */
export function policyOf(rules: Rules, code: DropCode): Policy {
  // Who made the pairs may have known better than who scored them.
  return rules[code] ?? (code === 'scores_contradict' ? 'warn' : 'quarantine');
}

export function policiesOf(code: DropCode): Policy[] {
  return POLICIES.filter(
    (policy) => (policy !== 'fix' || FIXABLE.includes(code)) && (policy !== 'warn' || WARNABLE.includes(code)),
  );
}

export const RulesSchema = z.partialRecord(z.enum(DROP_CODES), z.enum(POLICIES)).superRefine((rules, context) => {
  for (const [code, policy] of Object.entries(rules)) {
    const allowed = policiesOf(code as DropCode);
    if (!allowed.includes(policy))
      context.addIssue({ code: 'custom', path: [code], message: `must be ${allowed.join(' or ')}` });
  }
});
