// Solutions step by step, each step with a label (TRL's stepwise rows, as process reward models learn from): what they say of the whole.
import { type Method, ROW_KINDS } from '../contracts/rows.ts';
import { describe, type Fields, requireList, requireText } from './fields.ts';
import { RowFault } from './turns.ts';

/** Between steps: TRL's own. */
const SEPARATOR = '\n';

export function looksStepwise(row: Fields): boolean {
  return Array.isArray(row.completions) && Array.isArray(row.labels);
}

/**
 * The row with its steps as one completion, whose label says whether all of them are right.
 * @throws RowFault also where the method has nothing to learn from it: of chats a wrong step, of pairs every such row.
 */
export function joinSteps({ completions, labels, ...row }: Fields, method: Method): Fields {
  const steps = requireList(completions, 'completions').map((step, i) => requireText(step, `completions[${i}]`));
  const right = requireList(labels, 'labels').map((label, i) => readLabel(label, `labels[${i}]`));
  if (steps.length !== right.length)
    throw new RowFault(
      'label_missing',
      'labels',
      `labels must be one for each step, found ${right.length} for ${steps.length} steps; add or take out what differs`,
    );
  const kind = ROW_KINDS[method];
  if (kind === 'pair')
    throw notForMethod(`the row is a solution with labelled steps, and \`train.method: ${method}\` learns from pairs`);
  const wrong = right.indexOf(false);
  if (kind === 'chat' && wrong !== -1)
    throw notForMethod(
      `step ${wrong + 1} of ${steps.length} is labelled wrong, and \`train.method: sft\` learns whole solutions that are right`,
    );
  return { ...row, completion: steps.join(SEPARATOR), label: wrong === -1 };
}

function readLabel(label: unknown, path: string): boolean {
  if (typeof label === 'boolean') return label;
  if (label === 1 || label === 0) return label === 1;
  throw new RowFault(
    'bad_label',
    path,
    `${path} says neither yes nor no, found ${describe(label)}; write true or false`,
    { expected: 'true or false', found: describe(label) },
  );
}

function notForMethod(sentence: string): RowFault {
  return new RowFault('not_for_method', '', `${sentence}; set \`train.method: kto\`, or leave the row out`);
}
