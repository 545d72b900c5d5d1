// What people can do about rows that are dropped under a code: one sentence each.
import type { DropCode } from '../../contracts/rows.ts';

const HINTS: Record<DropCode, string> = {
  invalid_utf8:
    'Save the file as UTF-8, name its encoding with `encoding` on the source, or set `data.rules: {invalid_utf8: fix}` for single rows.',
  invalid_json: 'Write rows with a JSON library, one object a line.',
  too_large: 'Look for a missing line end or quote, or split the row.',
  not_object: 'Write each row as a JSON object.',
  unknown_shape:
    'Name the source’s `shape`, or map its fields with `columns`, such as `columns: {user: "{{subject}}", assistant: "{{reply}}"}`.',
  missing_field: 'Fill the field, or map another one with `columns`.',
  wrong_type: 'Write the field as the type that the message names, or set `data.rules: {wrong_type: fix}`.',
  unknown_role:
    'Map the role with `roles` on the source, or set `data.rules: {unknown_role: fix}` for usual names such as Human, bot or model.',
  empty_content: 'Fill the message, take it out, or set `data.rules: {empty_content: fix}`.',
  bad_turn_order:
    'Let user and assistant take turns, or set `data.rules: {bad_turn_order: fix}` to join turns of one role and leave off a greeting before the first question, or `warn` to keep them.',
  last_not_assistant:
    'End the chat with an assistant message, or set `data.rules: {last_not_assistant: fix}` to leave off what is behind the last one.',
  no_trainable_turn: 'Give at least one assistant message a weight of 1.',
  bad_weight:
    'Write weight as 0 or 1, on assistant messages only, or set `data.rules: {bad_weight: fix}` for true and false.',
  not_for_method: 'Choose the `train.method` that learns from such rows.',
  prompts_differ: 'Give both answers the same prompt.',
  empty_answer: 'Fill the answer or take the row out.',
  not_one_answer: 'Write each answer as one assistant message.',
  chosen_equals_rejected: 'Take the pair out: there is nothing to prefer.',
  scores_contradict:
    'Swap the answers where the scores are right, or set `data.rules: {scores_contradict: quarantine}`.',
  label_missing: 'Add the label.',
  bad_label: 'Write the label as true or false.',
  csv_missing_columns: 'Write every column of the row, and quote values that hold the delimiter.',
  csv_too_many_columns: 'Quote values that hold the delimiter.',
  csv_stray_quote: 'Double the quotes inside of a quoted value.',
  csv_unterminated_quote: 'Close the quote.',
  document_is_scan: 'Run OCR on the document (for example ocrmypdf), and name what it writes.',
  document_locked: 'Take the password off the document.',
  document_unreadable: 'Open the document and save it anew, or leave it out.',
  tool_call_without_result: 'Add the tool message that answers the call.',
  tool_result_without_call:
    'Add the call, or set `data.rules: {tool_result_without_call: warn}` where it stands in the text of the assistant.',
  bad_tool_schema: 'Write the tools as OpenAI function definitions.',
  media_missing: 'Put the image where the row says, or correct the reference.',
  media_unreadable: 'Save the image as PNG, JPEG, WebP or GIF.',
  media_count_mismatch: 'Give each placeholder one image.',
  media_not_trained: 'Take the image out, or name a base model that reads images.',
  left_out_by_template:
    'Take out what the chat template does not show, give the message `weight: 0`, or choose another template.',
  trailing_space: 'Take the space off the end of the answer, or set `data.rules: {trailing_space: fix}`.',
  mojibake: 'Read the file in its own encoding, or set `data.rules: {mojibake: fix}`.',
  too_short: 'Lower `data.filters.minChars` to keep such rows.',
  too_long_text: 'Raise `data.filters.maxChars` to keep such rows.',
  lang_excluded: 'Add the language to `data.filters.languages` to keep such rows.',
  pii_dropped: 'Set `data.privacy` to mask to keep such rows without the personal data.',
  pii_blocked: 'Take the personal data out of the source, or set `data.privacy` to mask.',
  near_duplicate: 'Raise `data.nearDuplicates.threshold` to keep more of them.',
  contaminated: 'Nothing to do: what the model is tested with must not be trained on.',
  too_long: 'Raise `data.maxLength`, or set `data.tooLong` to truncate or split.',
  no_trainable_token: 'Raise `data.maxLength`: nothing that is learned is left of the row.',
};

export function hintOf(code: string): string | null {
  return Object.hasOwn(HINTS, code) ? HINTS[code as DropCode] : null;
}
