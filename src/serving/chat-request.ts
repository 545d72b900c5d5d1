// What may be asked: the subset of OpenAI's chat completions that the engine does. The rest is refused by name, never ignored.
import { z } from 'zod';
import { pathOf, wordsOf } from '../contracts/issue-words.ts';
import { badRequest } from './api-error.ts';
import type { GenerateRequest } from './engine.ts';

/** Messages of one chat; longer ones do not fit any context that this engine holds. */
const MESSAGES_MAX = 1024;
/** As OpenAI's. */
const STOPS_MAX = 4;
/** Characters; a longer stop string would hold back as much text. */
const STOP_LENGTH_MAX = 256;
/** Answers to one request: each takes a row of the engine's batch. */
const CHOICES_MAX = 4;

const TextPart = z.strictObject({ type: z.literal('text'), text: z.string() });

const MessageSchema = z
  .strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant']),
    content: z.union([z.string(), z.array(TextPart).min(1)], { error: 'must be a string or a list of text parts' }),
    // Fields that clients send back from answers; only without content.
    refusal: z.null().optional(),
    annotations: z.array(z.never()).optional(),
    tool_calls: z.array(z.never()).nullish(),
    function_call: z.null().optional(),
    audio: z.null().optional(),
  })
  .transform(({ role, content }) => ({
    // The two names of one role; chat templates know `system`.
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map((part) => part.text).join(''),
  }));

const TokenLimit = z.int().min(1).nullish();

const ChatSchema = z.strictObject({
  model: z.string().min(1),
  messages: z.array(MessageSchema).min(1).max(MESSAGES_MAX),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_usage: z.boolean().optional() }).nullish(),
  max_tokens: TokenLimit,
  max_completion_tokens: TokenLimit,
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  seed: z.int().nullish(),
  stop: z
    .union([Stop(), z.array(Stop()).max(STOPS_MAX)], {
      error: `must be a string or up to ${STOPS_MAX} strings of 1 to ${STOP_LENGTH_MAX} characters`,
    })
    .nullish(),
  n: z.int().min(1).max(CHOICES_MAX).nullish(),
  user: z.string().max(512).nullish(),
});

function Stop() {
  return z.string().min(1).max(STOP_LENGTH_MAX);
}

/** Fields of OpenAI's API that are accepted only with the value that changes nothing. */
const NEUTRAL: Record<string, (value: unknown) => boolean> = {
  audio: () => false,
  frequency_penalty: (value) => value === 0,
  function_call: (value) => value === 'none',
  functions: isEmpty,
  logit_bias: isEmpty,
  logprobs: (value) => value === false,
  metadata: () => true,
  modalities: (value) => JSON.stringify(value) === '["text"]',
  parallel_tool_calls: () => true,
  prediction: () => false,
  presence_penalty: (value) => value === 0,
  reasoning_effort: (value) => value === 'none',
  response_format: (value) => (value as { type?: unknown }).type === 'text',
  service_tier: (value) => value === 'auto' || value === 'default',
  store: (value) => value === false,
  tool_choice: (value) => value === 'none',
  tools: isEmpty,
  top_logprobs: (value) => value === 0,
};

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

export interface ChatRequest {
  model: string;
  messages: GenerateRequest['messages'];
  stream: boolean;
  includeUsage: boolean;
  choices: number;
  /** null = as many as fit. */
  maxTokens: number | null;
  sampling: Pick<GenerateRequest, 'temperature' | 'topP' | 'seed' | 'stop'>;
}

/** @throws ApiError 400 that names the first field which does not fit. */
export function parseChatRequest(body: unknown): ChatRequest {
  const parsed = ChatSchema.safeParse(withoutNeutral(body));
  if (!parsed.success) throw describe(parsed.error.issues[0] as z.core.$ZodIssue);
  const asked = parsed.data;
  if (asked.stream_options && !asked.stream) {
    throw badRequest('`stream_options` is only allowed with `stream: true`.', 'stream_options');
  }
  return {
    model: asked.model,
    messages: asked.messages,
    stream: asked.stream ?? false,
    includeUsage: asked.stream_options?.include_usage ?? false,
    choices: asked.n ?? 1,
    maxTokens: asked.max_completion_tokens ?? asked.max_tokens ?? null,
    sampling: {
      temperature: asked.temperature ?? 1,
      topP: asked.top_p ?? 1,
      seed: asked.seed ?? null,
      stop: typeof asked.stop === 'string' ? [asked.stop] : (asked.stop ?? []),
    },
  };
}

function withoutNeutral(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  const kept = Object.entries(body).filter(([field, value]) => {
    if (!Object.hasOwn(NEUTRAL, field)) return true;
    if (value !== null && !NEUTRAL[field]?.(value)) {
      throw badRequest(`\`${field}\` is not supported by this endpoint; leave it out.`, field, 'unsupported_parameter');
    }
    return false;
  });
  return Object.fromEntries(kept);
}

function describe(issue: z.core.$ZodIssue) {
  if (issue.code === 'unrecognized_keys') {
    const field = pathOf([...issue.path, issue.keys[0] as string]);
    return badRequest(`\`${field}\` is not supported by this endpoint; leave it out.`, field, 'unsupported_parameter');
  }
  const field = pathOf(issue.path);
  const message = wordsOf(issue);
  return badRequest(field === '' ? 'The body must be a JSON object.' : `\`${field}\` ${message}.`, field || null);
}
