// Maps the shapes of preferences that people bring: pairs of answers to one prompt, and answers with a label.
import type { JudgedRow, Message, PairRow } from '../contracts/rows.ts';
import { readConversation, readMessages, toShareGptTurn } from './conversation.ts';
import { describe, type Fields, isPresent, requireObject, requireText } from './fields.ts';
import {
  afterSystem,
  asContext,
  type Chat,
  optionalSystem,
  plainTurn,
  readAlpacaPrompt,
  readQuestionPrompt,
  readUserPrompt,
  withSystem,
  withTools,
} from './shapes.ts';
import { readTools } from './tools.ts';
import { checkTurns, type Judge, RowFault, type Turn } from './turns.ts';

export type Pair = Omit<PairRow, 'id' | 'group' | 'src'>;
export type Judged = Omit<JudgedRow, 'id' | 'group' | 'src'>;

/** The names that the two answers of a pair have, the better one first: Hugging Face's and OpenAI's. */
const PAIR_FIELDS = [
  ['chosen', 'rejected'],
  ['preferred_output', 'non_preferred_output'],
] as const;

const LABEL_FIELDS = ['label', 'kto_tag'] as const;

export function looksLikePair(row: Fields): boolean {
  return PAIR_FIELDS.flat().some((field) => Object.hasOwn(row, field));
}

export function looksLikeJudged(row: Fields): boolean {
  return LABEL_FIELDS.some((field) => Object.hasOwn(row, field));
}

/** Whether it says yes or no of the answer; a label may as well be a topic. */
export function hasVerdict(row: Fields): boolean {
  return LABEL_FIELDS.some((field) => /^(?:true|false)$/i.test(String(row[field])));
}

/** @throws RowFault with the first thing that is wrong. */
export function mapPair(row: Fields, system: string | null, judge: Judge): Pair {
  const { prompt, chosen, rejected } = readPair(row, system, judge);
  const pair = { prompt: messagesOf(prompt), chosen: messageOf(chosen), rejected: messageOf(rejected) };
  return withTools(pair, readTools(toolsOwner(row), judge));
}

/** The pair as a chat that ends with its chosen answer. */
export function mapChosen(row: Fields, system: string | null, judge: Judge): Chat {
  const { prompt, chosen } = readPair(row, system, judge);
  const messages = [...prompt.map((turn) => asContext(turn).message), messageOf(chosen)];
  return withTools({ messages }, readTools(toolsOwner(row), judge));
}

interface PairTurns {
  prompt: Turn[];
  chosen: Turn;
  rejected: Turn;
}

function readPair(row: Fields, system: string | null, judge: Judge): PairTurns {
  const [chosenField, rejectedField] =
    PAIR_FIELDS.find((pair) => pair.some((f) => Object.hasOwn(row, f))) ?? PAIR_FIELDS[0];
  const chosenTurns = readAnswer(row[chosenField], chosenField);
  const rejectedTurns = readAnswer(row[rejectedField], rejectedField);
  const shared = isDialogue(chosenTurns) && isDialogue(rejectedTurns) ? commonTurns(chosenTurns, rejectedTurns) : 0;
  if (shared === 0 && (isDialogue(chosenTurns) || isDialogue(rejectedTurns)))
    throw promptsDiffer(`${chosenField} and ${rejectedField} do not begin with the same turns`);
  const prompt = shared === 0 ? readPrompt(row) : [...optionalSystem(row), ...chosenTurns.slice(0, shared)];
  if (shared > 0) requireSamePrompt(row, prompt);
  const chosen = onlyAnswer(chosenTurns.slice(shared), chosenField);
  const rejected = onlyAnswer(rejectedTurns.slice(shared), rejectedField);
  const whole = withSystem(prompt, system);
  checkAnswers(whole, [chosen, rejected], judge);
  requireDifferent(chosen, rejected);
  checkScores(row, judge);
  return { prompt: whole, chosen, rejected };
}

/** @throws RowFault with the first thing that is wrong. */
export function mapJudged(row: Fields, system: string | null, judge: Judge): Judged {
  const label = readLabel(row);
  const { prompt, completion } = readCompletion(row);
  const whole = withSystem(prompt, system);
  checkAnswers(whole, [completion], judge);
  return withTools({ prompt: messagesOf(whole), completion: messageOf(completion), label }, readTools(row, judge));
}

/** The answer stands in a field of its own, or is the last turn of the chat. */
function readCompletion(row: Fields): { prompt: Turn[]; completion: Turn } {
  const field = (['completion', 'response', 'output', 'answer', 'assistant'] as const).find((name) =>
    isPresent(row[name]),
  );
  if (field !== undefined)
    return { prompt: readPrompt(row), completion: onlyAnswer(readAnswer(row[field], field), field) };
  if (!isPresent(row.messages) && !isPresent(row.conversations))
    throw new RowFault('missing_field', 'completion', 'completion is missing; add the answer that the label is about');
  const prompt = readPrompt(row);
  const completion = prompt.pop() as Turn;
  return { prompt, completion };
}

const PROMPT_FIELDS = [
  'prompt',
  'input',
  'conversations',
  'instruction',
  'question',
  'query',
  'messages',
  'user',
] as const;

function readPrompt(row: Fields): Turn[] {
  const field = PROMPT_FIELDS.find(
    (name) => isPresent(row[name]) && !(name === 'input' && typeof row.input === 'string'),
  );
  switch (field) {
    case 'input': {
      const input = requireObject(row.input, 'input', 'wrong_type');
      return readConversation(input.messages, 'input.messages');
    }
    case 'conversations':
      return afterSystem(row, readConversation(row.conversations, 'conversations'));
    case 'instruction':
      return readAlpacaPrompt(row);
    case 'question':
    case 'query':
      return readQuestionPrompt(row);
    case 'messages':
      return afterSystem(row, readMessages(row, 'messages'));
    case 'user':
      return readUserPrompt(row);
    case 'prompt':
    case undefined:
      return [...optionalSystem(row), ...readPromptField(row)];
    default:
      return field satisfies never;
  }
}

function readPromptField(row: Fields): Turn[] {
  if (Array.isArray(row.prompt)) return readConversation(row.prompt, 'prompt');
  const field = isPresent(row.prompt) || typeof row.input !== 'string' ? 'prompt' : 'input';
  const turn = plainTurn(row, field, 'user');
  if (!HH_START.test(turn.message.content)) return [turn];
  // The dialogue may end where the answer begins.
  return readHhDialogue(turn.message.content, field).filter(({ message }) => message.content !== '');
}

/** A text is the answer, or the whole dialogue as Anthropic's HH sets write it; a list or an object is turns. */
function readAnswer(value: unknown, field: string): Turn[] {
  if (Array.isArray(value)) return readConversation(value, field);
  if (typeof value === 'object' && value !== null) return [toShareGptTurn(value, field)];
  const text = requireText(value, field);
  if (HH_START.test(text)) return readHhDialogue(text, field);
  return [{ message: { role: 'assistant', content: text }, at: field, field: '' }];
}

const HH_START = /^\s*Human:/;
const HH_TURN = /(?:^|\n\n)(Human|Assistant):/;

function readHhDialogue(text: string, field: string): Turn[] {
  const [, ...pieces] = text.trimStart().split(HH_TURN);
  return Array.from({ length: pieces.length / 2 }, (_, i): Turn => {
    const role = pieces[2 * i] === 'Human' ? 'user' : 'assistant';
    return { message: { role, content: (pieces[2 * i + 1] ?? '').trim() }, at: field, field: '' };
  });
}

/** Answers that begin with the user's turn or the system's bring their prompt with them. */
function isDialogue(turns: Turn[]): boolean {
  return turns[0]?.message.role !== 'assistant';
}

/** How many turns both begin with; the last turn of either is its answer. */
function commonTurns(a: Turn[], b: Turn[]): number {
  const most = Math.min(a.length, b.length) - 1;
  for (let i = 0; i < most; i++) if (JSON.stringify(a[i]?.message) !== JSON.stringify(b[i]?.message)) return i;
  return most;
}

/** A prompt that is given besides must be what the dialogues begin with. */
function requireSamePrompt(row: Fields, prompt: Turn[]): void {
  if (!isPresent(row.prompt)) return;
  const given = readPromptField(row).at(-1)?.message.content.trim();
  if (prompt.some(({ message }) => message.content.trim() === given)) return;
  throw promptsDiffer('no turn that both answers begin with is the prompt');
}

function promptsDiffer(why: string): RowFault {
  return new RowFault('prompts_differ', '', `${why}; give both answers the same prompt`);
}

function onlyAnswer(turns: Turn[], field: string): Turn {
  const [answer, ...more] = turns;
  if (answer !== undefined && more.length === 0) return answer;
  throw new RowFault(
    'not_one_answer',
    field,
    `${field} has ${turns.length} turns of its own, and an answer is one; keep the first that differs, or leave the row out`,
  );
}

/** Each answer must be a good end of the chat. */
function checkAnswers(prompt: Turn[], answers: Turn[], judge: Judge): void {
  for (const answer of answers) {
    const { message, at, field } = answer;
    refuseImages([...prompt, answer]);
    if (message.content.trim() === '' && message.tool_calls === undefined)
      throw new RowFault('empty_answer', at + field, `${at + field} is empty; write the answer, or leave the row out`);
    checkTurns([...prompt.map(withoutWeight), withoutWeight(answer)], judge);
  }
}

/** Only chats carry images. */
function refuseImages(turns: Turn[]): void {
  const turn = turns.find(({ images }) => images !== undefined);
  if (turn === undefined) return;
  const path = `${turn.at}${turn.field}`;
  throw new RowFault('wrong_type', path, `${path} shows an image, and answers are compared by text alone; take it out`);
}

function requireDifferent(chosen: Turn, rejected: Turn): void {
  const same = (['content', 'tool_calls'] as const).every(
    (key) => chosen.message[key]?.trim() === rejected.message[key]?.trim(),
  );
  if (!same) return;
  throw new RowFault(
    'chosen_equals_rejected',
    chosen.at,
    `${chosen.at} and ${rejected.at} are the same answer, which prefers nothing; change one, or leave the row out`,
  );
}

/** What sets that score answers call the two scores, the chosen answer's first. */
const SCORE_FIELDS = [
  ['score_chosen', 'score_rejected'],
  ['chosen_score', 'rejected_score'],
  ['chosen_rating', 'rejected_rating'],
  ['chosen-rating', 'rejected-rating'],
  ['chosen_reward', 'rejected_reward'],
] as const;

/** Equal scores are a tie, which somebody has decided. */
function checkScores(row: Fields, judge: Judge): void {
  const fields = SCORE_FIELDS.find((pair) => pair.every((field) => isScore(row[field])));
  if (fields === undefined) return;
  const [chosen, rejected] = fields;
  if (Number(row[chosen]) >= Number(row[rejected])) return;
  const sentence = `${chosen} is ${row[chosen]} and ${rejected} is ${row[rejected]}, so the scores prefer the other answer; swap the answers, or correct the scores`;
  judge.take(new RowFault('scores_contradict', chosen, sentence));
}

function isScore(value: unknown): boolean {
  return (
    typeof value === 'number' || (typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)))
  );
}

/** A weight says which turns of a chat are trained on; here it is the answers. */
function withoutWeight(turn: Turn): Turn {
  const { weight: _weight, ...message } = turn.message;
  return { ...turn, message };
}

function messageOf(turn: Turn): Message {
  return withoutWeight(turn).message;
}

function messagesOf(turns: Turn[]): Message[] {
  return turns.map(messageOf);
}

/** OpenAI's preference rows have the tools beside the prompt. */
function toolsOwner(row: Fields): Fields {
  return isPresent(row.tools) || isPresent(row.functions) || typeof row.input !== 'object' || row.input === null
    ? row
    : (row.input as Fields);
}

const WANTED: readonly string[] = ['true', '1', 'yes', 'good', 'desirable', 'chosen', 'positive'];
const UNWANTED: readonly string[] = ['false', '0', '-1', 'no', 'bad', 'undesirable', 'rejected', 'negative'];

function readLabel(row: Fields): boolean {
  const field = LABEL_FIELDS.find((name) => isPresent(row[name]) && row[name] !== '');
  if (field === undefined)
    throw new RowFault(
      'label_missing',
      'label',
      'label is missing; add true for a wanted answer or false for an unwanted one, or leave the row out',
    );
  const value = row[field];
  const word = typeof value === 'object' ? '' : String(value).trim().toLowerCase();
  if (WANTED.includes(word)) return true;
  if (UNWANTED.includes(word)) return false;
  throw new RowFault(
    'bad_label',
    field,
    `${field} says neither yes nor no, found ${describe(value)}; write true for a wanted answer or false for an unwanted one`,
    { expected: 'true or false', found: describe(value) },
  );
}
