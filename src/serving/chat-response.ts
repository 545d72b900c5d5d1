// What is answered: OpenAI's chat completion objects, whole and in pieces.
import { randomUUID } from 'node:crypto';
import type { Generated } from './engine.ts';

export interface Identity {
  id: string;
  created: number;
  model: string;
  /** Changes with the weights that answer. */
  system_fingerprint: string;
}

type Finished = Extract<Generated, { kind: 'finished' }>;

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export function newIdentity(model: string, fingerprint: string): Identity {
  const created = Math.floor(Date.now() / 1000);
  return { id: `chatcmpl-${randomUUID().replaceAll('-', '')}`, created, model, system_fingerprint: fingerprint };
}

/** The prompt counts once, however many choices there are. */
export function usageOf(finished: Finished[]): Usage {
  const prompt = finished[0]?.promptTokens ?? 0;
  const completion = finished.reduce((sum, end) => sum + end.completionTokens, 0);
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}

export function completion(identity: Identity, texts: string[], finished: Finished[]) {
  const choices = texts.map((content, index) => ({
    index,
    message: { role: 'assistant', content, refusal: null },
    logprobs: null,
    finish_reason: finished[index]?.reason,
  }));
  return { ...identity, object: 'chat.completion', choices, usage: usageOf(finished) };
}

/** The pieces of a stream, in the order in which they are sent. With usage asked for, every piece but the last has `usage: null`. */
export function createChunks(identity: Identity, includeUsage: boolean) {
  const head = { ...identity, object: 'chat.completion.chunk' };
  const chunk = (index: number, delta: object, finish_reason: string | null) =>
    event({
      ...head,
      choices: [{ index, delta, logprobs: null, finish_reason }],
      ...(includeUsage ? { usage: null } : {}),
    });
  return {
    role: (index: number) => chunk(index, { role: 'assistant', content: '' }, null),
    text: (index: number, content: string) => chunk(index, { content }, null),
    finish: (index: number, reason: string) => chunk(index, {}, reason),
    end: (usage: Usage) => `${includeUsage ? event({ ...head, choices: [], usage }) : ''}data: [DONE]\n\n`,
  };
}

/** One server-sent event. */
export function event(payload: object): string {
  return `data: ${JSON.stringify(payload)}\n\n`;
}
