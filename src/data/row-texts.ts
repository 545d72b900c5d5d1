// The texts of a row that are its own: not the system message and the tools, which many rows share.
import type { Message } from '../contracts/rows.ts';
import type { Content } from './mapping.ts';

export interface OwnText {
  text: string;
  /** It is what the row asks: a user's turn, or a text without turns. */
  isPrompt: boolean;
}

/** In the order of the row: prompt before answers, the chosen one first. */
export function ownTexts(content: Content): OwnText[] {
  if ('text' in content) return [{ text: content.text, isPrompt: true }];
  return messagesOf(content)
    .filter(({ role }) => role !== 'system' && role !== 'developer')
    .flatMap(textsOf);
}

function textsOf({ role, reasoning_content, content, tool_calls }: Message): OwnText[] {
  const own = { text: content, isPrompt: role === 'user' };
  const others = (text: string | undefined) => (text === undefined ? [] : [{ text, isPrompt: false }]);
  return [...others(reasoning_content), own, ...others(tool_calls)];
}

function messagesOf(content: Exclude<Content, { text: string }>): Message[] {
  if ('messages' in content) return content.messages;
  if ('chosen' in content) return [...content.prompt, content.chosen, content.rejected];
  return [...content.prompt, content.completion];
}
