// The gateway's OpenAI-shaped API, as much of it as the CLI asks.
import { CliError } from './failures.ts';

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface ChatOptions {
  gateway: string;
  /** The endpoint's name. */
  model: string;
  messages: ChatMessage[];
  maxTokens?: number;
  signal?: AbortSignal;
}

/** The first answer may wait for a cold engine, ms. */
const FIRST_BYTE_MS_MAX = 60_000;
const LIST_MS_MAX = 10_000;

/** Names that can be asked, as `/v1/models` lists them. */
export async function listEndpoints(gateway: string): Promise<string[]> {
  const response = await request(`${gateway}/v1/models`, { signal: AbortSignal.timeout(LIST_MS_MAX) });
  const { data } = (await response.json()) as { data: { id: string }[] };
  return data.map(({ id }) => id);
}

/** The answer, piece by piece as it is generated. */
export async function* streamChat(options: ChatOptions): AsyncGenerator<string> {
  const response = await post(options, { stream: true });
  let buffered = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    buffered += chunk;
    const lines = buffered.split('\n');
    buffered = lines.pop() ?? '';
    for (const line of lines) {
      const text = deltaOf(line.trimEnd());
      if (text !== '') yield text;
    }
  }
}

/** The whole answer at once. */
export async function chat(options: ChatOptions): Promise<string> {
  const response = await post(options, { stream: false });
  const { choices } = (await response.json()) as { choices: { message: { content: string | null } }[] };
  return choices[0]?.message.content ?? '';
}

function post(options: ChatOptions, { stream }: { stream: boolean }): Promise<Response> {
  const { gateway, model, messages, maxTokens, signal } = options;
  const limit = AbortSignal.timeout(FIRST_BYTE_MS_MAX);
  return request(`${gateway}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages, stream, temperature: 0, ...(maxTokens && { max_tokens: maxTokens }) }),
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  });
}

async function request(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted && (init.signal.reason as Error)?.name === 'AbortError') throw error;
    throw new CliError(
      'engine_unavailable',
      `The gateway at ${new URL(url).origin} does not answer; check it with \`anneal doctor\`.`,
    );
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  const why = (body?.error?.message ?? `status ${response.status}`).replace(/\.$/, '');
  throw new CliError('engine_refused', `The gateway at ${new URL(url).origin} refused: ${why}.`);
}

/** The text of one server-sent event; empty for comments, `[DONE]` and events without text. */
export function deltaOf(line: string): string {
  if (!line.startsWith('data:')) return '';
  const payload = line.slice('data:'.length).trim();
  if (payload === '[DONE]' || payload === '') return '';
  const event = JSON.parse(payload) as {
    choices?: { delta?: { content?: string | null } }[];
    error?: { message: string };
  };
  if (event.error) throw new CliError('engine_refused', `The answer broke off: ${event.error.message}`);
  return event.choices?.[0]?.delta?.content ?? '';
}
