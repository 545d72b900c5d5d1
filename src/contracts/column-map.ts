// How a source says what its columns mean: which field of a row is made of which columns, and what its turns and roles are called.
import { z } from 'zod';
import type { RowKind } from './rows.ts';
import { columnsOf, parseTemplate, wholeColumn } from './template.ts';

/** Fields whose value is always text. */
const TEXT_TARGETS = ['system', 'user', 'assistant', 'text'] as const;
/** Fields that are a list of their own, which no text can be put around. */
const LIST_TARGETS = ['messages', 'history', 'tools', 'images'] as const;
/** Fields that are text or a list of turns, and the label of an answer. */
const OPEN_TARGETS = ['prompt', 'completion', 'chosen', 'rejected', 'label'] as const;

export const COLUMN_TARGETS = [...TEXT_TARGETS, ...LIST_TARGETS, ...OPEN_TARGETS] as const;
export type ColumnTarget = (typeof COLUMN_TARGETS)[number];

export function isTextTarget(target: ColumnTarget): boolean {
  return (TEXT_TARGETS as readonly string[]).includes(target);
}

export function isListTarget(target: ColumnTarget): boolean {
  return (LIST_TARGETS as readonly string[]).includes(target);
}

/** At most 8,192 characters each: the longest prompt that a person still reads. */
export const ColumnsSchema = z
  .partialRecord(z.enum(COLUMN_TARGETS), z.string().min(1).max(8192))
  .superRefine((columns, context) => {
    for (const [target, template] of Object.entries(columns)) {
      const problem = templateProblem(target as ColumnTarget, template);
      if (problem !== null) context.addIssue({ code: 'custom', path: [target], message: problem });
    }
  });
export type Columns = z.infer<typeof ColumnsSchema>;

function templateProblem(target: ColumnTarget, template: string): string | null {
  try {
    const pieces = parseTemplate(template);
    if (isListTarget(target) && wholeColumn(pieces) === null)
      return 'must be one column such as {{name}}, because its value is a list';
    return null;
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

/** Fields of the turns of `messages`, `conversations` and their like, where they are not `role` and `content`, or `from` and `value`. */
export const TurnsSchema = z.strictObject({
  role: z.string().min(1).max(256),
  content: z.string().min(1).max(256),
  /** A number 0 or 1, or a truth value: whether an assistant turn is trained on. */
  weight: z.string().min(1).max(256).nullable().default(null),
});
export type TurnFields = z.infer<typeof TurnsSchema>;

/** What the roles of a source are called; `function_call` = an assistant turn whose text is the JSON of one tool call. */
export const RolesSchema = z.record(
  z.string().min(1).max(256),
  z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function_call']),
);
export type Roles = z.infer<typeof RolesSchema>;

type Targets = readonly ColumnTarget[];

/** The fields that a map must give for the shapes that one can make. */
const CHAT_TARGETS: Partial<Record<string, Targets>> = {
  'user-assistant': ['user', 'assistant'],
  messages: ['messages'],
  'prompt-completion': ['prompt', 'completion'],
  text: ['text'],
};
const PAIR_TARGETS: Targets = ['chosen', 'rejected'];
const JUDGED_TARGETS: readonly Targets[] = [
  ['user', 'assistant', 'label'],
  ['prompt', 'completion', 'label'],
  ['messages', 'label'],
];

interface ColumnRules {
  sources: readonly { columns: Columns | null; shape: string }[];
  dropColumns: readonly string[];
  groupBy: string | null;
}

interface ColumnProblem {
  path: PropertyKey[];
  message: string;
}

/** What is wrong with the maps of a dataset for rows of a kind, each fit for `must …`. */
export function columnProblems({ sources, dropColumns, groupBy }: ColumnRules, kind: RowKind): ColumnProblem[] {
  const isGone = groupBy !== null && dropColumns.includes(groupBy);
  const message = 'must not be in `data.dropColumns`, which are gone before rows are grouped';
  const inSources = sources.flatMap(({ columns, shape }, i) =>
    columns === null
      ? []
      : [...lackOf(columns, shape, kind), ...droppedIn(columns, dropColumns)].map((problem) => ({
          ...problem,
          path: ['sources', i, ...problem.path],
        })),
  );
  return isGone ? [{ path: ['groupBy'], message }, ...inSources] : inSources;
}

function lackOf(columns: Columns, shape: string, kind: RowKind): ColumnProblem[] {
  const sets = neededSets(shape, kind);
  if (sets.length === 0)
    return [{ path: ['shape'], message: 'must be auto with `columns`, which make the fields of another shape' }];
  if (sets.some((targets) => targets.every((target) => columns[target] !== undefined))) return [];
  const wanted = sets.map((targets) => targets.join(' and ')).join(', or ');
  return [{ path: ['columns'], message: `must map ${wanted}` }];
}

/** One of these sets; none where no map can make the shape. */
function neededSets(shape: string, kind: RowKind): readonly Targets[] {
  if (kind === 'pair' || shape === 'preference') return [PAIR_TARGETS];
  if (kind === 'judged') return JUDGED_TARGETS;
  const targets = CHAT_TARGETS[shape];
  if (targets !== undefined) return [targets];
  return shape === 'auto' ? Object.values(CHAT_TARGETS).filter((set) => set !== undefined) : [];
}

function droppedIn(columns: Columns, dropColumns: readonly string[]): ColumnProblem[] {
  return Object.entries(columns).flatMap(([target, template]) => {
    const dropped = columnsIn(template).find((column) => dropColumns.includes(column));
    if (dropped === undefined) return [];
    return [
      { path: ['columns', target], message: `must not use \`${dropped}\`, which \`data.dropColumns\` takes out` },
    ];
  });
}

/** None of a template that is wrong, which is told elsewhere. */
function columnsIn(template: string): string[] {
  try {
    return columnsOf(parseTemplate(template));
  } catch {
    return [];
  }
}
