// One message as OpenAI writes it, and what is wrong with it: role, content, weight, tool calls.
import { IMAGE_TAG, type Message } from '../contracts/rows.ts';
import { describe, type Fields, firstPresent, isPresent, mismatch, requireObject, requireText } from './fields.ts';
import { readToolCalls } from './tools.ts';
import { RowFault, type Turn } from './turns.ts';

const ROLES: readonly string[] = ['system', 'developer', 'user', 'assistant', 'tool'];

export function toTurn(raw: unknown, at: string): Turn {
  const entry = requireObject(raw, at, 'wrong_type');
  const role = readRole(entry, at);
  const calls = readToolCalls(entry, at);
  if (calls !== undefined && role !== 'assistant')
    throw new RowFault(
      'wrong_type',
      `${at}.tool_calls`,
      `${at}.tool_calls stands on a ${role} turn; only assistant turns call tools`,
    );
  const images: (string | null)[] = [];
  const message: Message = {
    role,
    content: readContent(entry.content, { path: `${at}.content`, role, images, isOptional: calls !== undefined }),
  };
  if (isPresent(entry.name)) message.name = requireText(entry.name, `${at}.name`);
  Object.assign(message, readWeight(entry.weight, `${at}.weight`));
  if (calls !== undefined) message.tool_calls = calls;
  if (isPresent(entry.tool_call_id)) message.tool_call_id = requireText(entry.tool_call_id, `${at}.tool_call_id`);
  if (role === 'assistant') Object.assign(message, readReasoning(entry, at));
  const turn: Turn = { message, at, field: '.content' };
  return images.length === 0 ? turn : { ...turn, images: images.filter((address) => address !== null) };
}

function readRole(entry: Fields, at: string): Message['role'] {
  const named = requireText(entry.role, `${at}.role`);
  const role = named === 'function' ? 'tool' : named;
  if (!ROLES.includes(role)) throw unknownRole(`${at}.role`, role, ROLES);
  return role as Message['role'];
}

interface Place {
  path: string;
  role: Message['role'];
  /** Addresses found are added here; null = an image part without one. */
  images: (string | null)[];
  isOptional: boolean;
}

/** Text, or a list of parts: texts are joined by line ends as vLLM joins them, an image stands among them as a tag. */
function readContent(value: unknown, place: Place): string {
  if (place.isOptional && !isPresent(value)) return '';
  if (!Array.isArray(value)) return requireText(value, place.path);
  return value
    .map((part: unknown, i) => readPart(part, `${place.path}[${i}]`, place))
    .reduce((joined, { text, isImage }, i, parts) => {
      if (i === 0) return text;
      return isImage || parts[i - 1]?.isImage ? joined + text : `${joined}\n${text}`;
    }, '');
}

function readPart(value: unknown, path: string, { role, images }: Place): { text: string; isImage: boolean } {
  const part = requireObject(value, path, 'wrong_type');
  if (part.type === 'text') return { text: requireText(part.text, `${path}.text`), isImage: false };
  if (part.type !== 'image_url' && part.type !== 'image')
    throw new RowFault(
      'wrong_type',
      `${path}.type`,
      `${path} must be a part of type text, image or image_url, found ${describe(part.type)}; only those are trained on`,
      { expected: 'text, image or image_url', found: describe(part.type) },
    );
  if (role === 'assistant' || role === 'system' || role === 'developer')
    throw new RowFault(
      'wrong_type',
      `${path}.type`,
      `${path} is an image on a ${role} turn; only user and tool turns show images`,
    );
  const address = addressOf(part);
  images.push(address === undefined ? null : requireText(address, `${path}.${part.type}`));
  return { text: IMAGE_TAG, isImage: true };
}

/** OpenAI's `image_url: {url}`, Hugging Face's `url`, `path` or `image`; undefined where the row's `images` are meant. */
function addressOf(part: Fields): unknown {
  const named = [part.image_url, part.image, part.url, part.path].find(isPresent);
  return typeof named === 'object' && named !== null
    ? ((named as Fields).url ?? (named as Fields).path)
    : (named ?? undefined);
}

export function readWeight(value: unknown, path: string): { weight?: 0 | 1 } {
  if (!isPresent(value)) return {};
  if (value === 0 || value === 1) return { weight: value };
  const fix = 'write 0 for context and 1 for training';
  throw mismatch('bad_weight', path, { expected: '0 or 1', found: describe(value) }, fix);
}

/** As vLLM, gpt-oss and OpenRouter name it. */
const REASONING_FIELDS = ['reasoning_content', 'thinking', 'reasoning'] as const;

function readReasoning(entry: Fields, at: string): { reasoning_content?: string } {
  const [field, value] = firstPresent(entry, REASONING_FIELDS);
  return isPresent(value) && value !== '' ? { reasoning_content: requireText(value, `${at}.${field}`) } : {};
}

export function unknownRole(path: string, found: string, known: readonly string[]): RowFault {
  const shown = JSON.stringify(found.slice(0, 40));
  const sentence = `${path} is ${shown}, which is no role; use ${known.join(', ')}`;
  return new RowFault('unknown_role', path, sentence, { expected: known.join(', '), found: shown });
}
