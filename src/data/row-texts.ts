// The texts of a row that are its own: not the system message and the tools, which many rows share.
import type { Message } from '../contracts/rows.ts';
import type { Content } from './mapping.ts';

/** In the order of the row: prompt before answers, the chosen one first. */
export function ownTexts(content: Content): string[] {
  if ('text' in content) return [content.text];
  return ownMessages(content).flatMap((message) =>
    [message.reasoning_content, message.content, message.tool_calls].filter((text) => text !== undefined),
  );
}

/** What the row asks: its users' turns, or the whole text. */
export function promptTexts(content: Content): string[] {
  if ('text' in content) return [content.text];
  return ownMessages(content)
    .filter(({ role }) => role === 'user')
    .map(({ content: text }) => text);
}

function ownMessages(content: Exclude<Content, { text: string }>): Message[] {
  return messagesOf(content).filter(({ role }) => role !== 'system' && role !== 'developer');
}

function messagesOf(content: Exclude<Content, { text: string }>): Message[] {
  if ('messages' in content) return content.messages;
  if ('chosen' in content) return [...content.prompt, content.chosen, content.rejected];
  return [...content.prompt, content.completion];
}
