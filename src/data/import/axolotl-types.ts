// Axolotl's named instruction and preference types: which columns each reads, as its documentation of dataset formats has them.
import type { Columns } from '../../contracts/column-map.ts';
import type { Method } from '../../contracts/rows.ts';
import { column, joined, type SourceInput } from './imported.ts';

type Known = Pick<SourceInput, 'shape' | 'columns'>;

function asked(user: string, assistant: string, more: Columns = {}): Known {
  return { columns: { ...more, user, assistant: column(assistant) } };
}

const INSTRUCTIONS: Record<string, Known> = {
  alpaca: { shape: 'alpaca' },
  alpaca_chat: { shape: 'alpaca' },
  'alpaca_chat.load_qa': { shape: 'question-answer' },
  'alpaca_chat.load_concise': { shape: 'alpaca' },
  'alpaca_chat.load_camel_ai': asked(column('message_1'), 'message_2'),
  'alpaca_w_system.load_open_orca': asked(column('question'), 'response', {
    system: column('system_prompt', 'optional'),
  }),
  alpaca_w_system: asked(joined('instruction', 'input'), 'output', { system: column('system', 'optional') }),
  gpteacher: asked(joined('instruction', 'input'), 'response'),
  jeopardy: asked(joined('question', 'category'), 'answer'),
  oasst: asked(column('INSTRUCTION'), 'RESPONSE'),
  metharme: asked(column('prompt'), 'generation'),
  summarizetldr: asked(column('article'), 'summary'),
  context_qa: asked('{{article}}\n\n{{question}}', 'answer'),
  'context_qa.load_v2': asked('{{context}}\n\n{{question}}', 'answer'),
};

function pair(user: string, chosen = 'chosen', rejected = 'rejected'): Known {
  return {
    columns: {
      system: column('system', 'optional'),
      user: column(user),
      chosen: column(chosen),
      rejected: column(rejected),
    },
  };
}

/** By what stands behind the point: the first part only names a template, which is the model's own here. */
const PAIRS: Record<string, Known> = {
  intel: pair('question'),
  prompt_pairs: pair('prompt'),
  ultra: pair('prompt'),
  icr: pair('input'),
  argilla: pair('instruction', 'chosen_response', 'rejected_response'),
  argilla_chat: { shape: 'preference' },
  default: { shape: 'preference' },
};

function judged(user: string): Known {
  return {
    columns: {
      system: column('system', 'optional'),
      user: column(user),
      assistant: column('completion'),
      label: column('label'),
    },
  };
}

const JUDGED: Record<string, Known> = {
  intel: judged('question'),
  prompt_pairs: judged('prompt'),
  ultra: judged('prompt'),
  argilla: judged('instruction'),
  argilla_chat: { shape: 'kto' },
  default: { shape: 'kto' },
};

/** null where the type is not known. */
export function typeOf(type: string, method: Method): Known | null {
  // What stands behind a colon names a style of prompt, which is the model's own template here.
  const name = type.split(':')[0] as string;
  const [kind, style = 'default'] = name.split('.') as [string, string?];
  if (method === 'sft') return INSTRUCTIONS[name] ?? INSTRUCTIONS[kind] ?? null;
  return (method === 'kto' ? JUDGED : PAIRS)[style] ?? null;
}
