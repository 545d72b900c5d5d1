// What a profile asks of a row: its messages in order, its question and its answer.
import type { Message } from '../../contracts/rows.ts';
import type { Content } from '../mapping.ts';

export interface RowFacts {
  messages: Message[];
  /** The first user message; null where there is none, as with raw text. */
  question: string | null;
  /** What is learned: the last assistant message, the chosen or the judged answer. */
  answer: string | null;
  tools: boolean;
  media: boolean;
  label: boolean | null;
  /** Of a row that is no chat. */
  text: string | null;
}

const NOTHING = { question: null, answer: null, tools: false, media: false, label: null, text: null } as const;

export function factsOf(content: Content): RowFacts {
  if ('text' in content) return { ...NOTHING, messages: [], text: content.text };
  const tools = content.tools !== undefined;
  if ('messages' in content) {
    const { messages } = content;
    const answer = messages.findLast(({ role }) => role === 'assistant')?.content ?? null;
    return { ...NOTHING, messages, question: firstQuestion(messages), answer, tools, media: 'media' in content };
  }
  const question = firstQuestion(content.prompt);
  if ('label' in content)
    return {
      ...NOTHING,
      ...{ messages: [...content.prompt, content.completion], question, tools },
      ...{ answer: content.completion.content, label: content.label },
    };
  return {
    ...NOTHING,
    ...{ messages: [...content.prompt, content.chosen], question, answer: content.chosen.content, tools },
  };
}

function firstQuestion(messages: Message[]): string | null {
  return messages.find(({ role }) => role === 'user')?.content ?? null;
}

const LETTERS: Record<Message['role'], string> = { system: 's', developer: 'd', user: 'u', assistant: 'a', tool: 't' };
/** Messages of a role pattern that are told; a longer chat ends in `…`. */
const PATTERN_MAX = 12;

/** Such as `suaua`: a letter for each message. */
export function rolePatternOf(messages: Message[]): string {
  let pattern = '';
  for (let i = 0; i < Math.min(messages.length, PATTERN_MAX); i++) pattern += LETTERS[(messages[i] as Message).role];
  return messages.length > PATTERN_MAX ? `${pattern}…` : pattern;
}
