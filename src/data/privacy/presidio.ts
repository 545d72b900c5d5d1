// Asks Presidio's analyzer for names and addresses in the texts of rows, many texts a request. Nothing is passed over: a text
// that could not be asked about fails the batch.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { AnnealError } from '../../contracts/failure.ts';
import type { PiiType, PrivacyRules } from '../../contracts/privacy-rules.ts';
import { inLanes } from '../../storage/in-lanes.ts';
import type { Content } from '../mapping.ts';
import { actionOf, createActions, type Inspection } from './actions.ts';
import { type Finding, withoutOverlaps } from './findings.ts';
import { replaceTexts } from './texts.ts';

export interface Presidio {
  /** In the order of the contents. @throws AnnealError `source_unavailable` when Presidio cannot be asked. */
  inspectBatch(contents: readonly Content[]): Promise<Inspection[]>;
}

/** Presidio's names of what we have no detector for. */
const TYPES: Readonly<Record<string, PiiType>> = { PERSON: 'person', LOCATION: 'address' };

/** The score that Presidio's own samples use. */
const SCORE_MIN = 0.5;
const TEXTS_A_REQUEST = 32;
/**
 * Characters of a request, and of a text at a time: the small language model of spaCy takes up to ten seconds for as many, and refuses a
 * million.
 */
const CHARS_A_REQUEST = 32_768;
const REQUESTS_AT_A_TIME = 4;
const REQUEST_TIMEOUT_MS = 60_000;
const TRIES = 3;
const FIRST_PAUSE_MS = 100;

/** `start` and `end` count code points, not UTF-16 units. */
const Found = z.array(
  z.object({ entity_type: z.string(), start: z.int().min(0), end: z.int().min(0), score: z.number() }),
);
const Answer = z.array(Found);

export function createPresidio(rules: PrivacyRules, key: string | null, signal: AbortSignal): Presidio {
  const openRow = createActions(rules, key);
  const entities = Object.keys(TYPES).filter((name) => actionOf(rules, TYPES[name] as PiiType) !== 'off');
  return {
    async inspectBatch(contents) {
      if (rules.presidio === null || entities.length === 0) return contents.map((content) => openRow().finish(content));
      const texts = [...new Set(contents.flatMap(textsOf).flatMap(piecesOf))];
      const found = new Map<string, Finding[]>();
      const url = new URL(`${rules.presidio.replace(/\/$/, '')}/analyze`);
      await inLanes(requestsOf(texts), REQUESTS_AT_A_TIME, async (request) => {
        const answers = await analyze(
          url,
          { text: request, language: rules.presidioLanguage, entities, score_threshold: SCORE_MIN },
          signal,
        );
        for (const [i, text] of request.entries()) found.set(text, findingsOf(text, answers[i] ?? []));
      });
      return contents.map((content) => {
        const row = openRow();
        return row.finish(
          replaceTexts(content, (text, path) => row.take(text, path, (written) => findingsIn(written, found))),
        );
      });
    },
  };
}

/** Without letters there is no name. */
function textsOf(content: Content): string[] {
  const texts: string[] = [];
  replaceTexts(content, (text) => {
    if (/\p{L}{2}/u.test(text)) texts.push(text);
    return text;
  });
  return texts;
}

/** Long texts are cut at line ends, else at spaces, for there a name is least likely to be. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest.length > CHARS_A_REQUEST) {
    const head = rest.slice(0, CHARS_A_REQUEST);
    const end = [head.lastIndexOf('\n') + 1, head.lastIndexOf(' ') + 1].find((at) => at > CHARS_A_REQUEST / 2);
    const length = end ?? CHARS_A_REQUEST - (/[\ud800-\udbff]$/.test(head) ? 1 : 0);
    pieces.push(rest.slice(0, length));
    rest = rest.slice(length);
  }
  return [...pieces, rest];
}

function findingsIn(text: string, found: Map<string, Finding[]>): Finding[] {
  let from = 0;
  return piecesOf(text).flatMap((piece) => {
    const own = (found.get(piece) ?? []).map((one) => ({ ...one, start: one.start + from, end: one.end + from }));
    from += piece.length;
    return own;
  });
}

function requestsOf(texts: string[]): string[][] {
  const requests: string[][] = [];
  let chars = Number.POSITIVE_INFINITY;
  for (const text of texts) {
    const last = requests.at(-1);
    chars += text.length;
    if (last !== undefined && last.length < TEXTS_A_REQUEST && chars <= CHARS_A_REQUEST) last.push(text);
    else {
      requests.push([text]);
      chars = text.length;
    }
  }
  return requests;
}

interface Question {
  text: string[];
  language: string;
  entities: string[];
  score_threshold: number;
}

async function analyze(url: URL, question: Question, signal: AbortSignal): Promise<z.infer<typeof Answer>> {
  for (let tries = 1; ; tries++) {
    const answer = await tryAnalyze(url, question, signal);
    if (!(answer instanceof AnnealError)) return answer;
    if (answer.kind !== 'source_unavailable' || tries === TRIES) throw answer;
    await sleep(FIRST_PAUSE_MS * 2 ** tries, undefined, { signal });
  }
}

async function tryAnalyze(
  url: URL,
  question: Question,
  signal: AbortSignal,
): Promise<z.infer<typeof Answer> | AnnealError> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(question),
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    });
    if (!response.ok) return refused(url, question, response.status, await response.text());
    const parsed = Answer.safeParse(await response.json());
    if (parsed.success && parsed.data.length === question.text.length) return parsed.data;
    return new AnnealError(
      'bad_request',
      `${url} did not answer as Presidio's analyzer does (2.2.355 or later); correct \`data.privacy.presidio\`.`,
    );
  } catch (error) {
    signal.throwIfAborted();
    const reason =
      error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error);
    return new AnnealError(
      'source_unavailable',
      `Presidio at ${url} cannot be asked: ${reason}; start it, or set \`data.privacy.presidio\` to null.`,
      { cause: error },
    );
  }
}

/** Presidio also answers 500 to a language that it has no model of, without naming it. */
function refused(url: URL, { language }: Question, status: number, body: string): AnnealError {
  if (/No matching recognizers/.test(body))
    return new AnnealError(
      'bad_request',
      `Presidio at ${url} has no recognizers of the language ${language}; correct \`data.privacy.presidioLanguage\`, or give it a model of the language.`,
    );
  return new AnnealError(
    status >= 500 ? 'source_unavailable' : 'bad_request',
    `Presidio at ${url} answered ${status}: ${body.slice(0, 200)}; see to it, or set \`data.privacy.presidio\` to null.`,
  );
}

/** What lies in our own placeholders is none. */
function findingsOf(text: string, found: z.infer<typeof Found>): Finding[] {
  const unitOf = unitsByCodePoint(text);
  const findings = found.flatMap(({ entity_type, start, end, score }): Finding[] => {
    const type = TYPES[entity_type];
    const [from, to] = [unitOf(start), unitOf(end)];
    if (type === undefined || score < SCORE_MIN || from >= to) return [];
    const written = text.slice(from, to);
    const isPlaceholder = /[<>]/.test(written) || (text[from - 1] === '<' && text[to] === '>');
    return isPlaceholder
      ? []
      : [{ type, start: from, end: to, value: written.toLowerCase().replaceAll(/\s+/g, ' ').trim() }];
  });
  return withoutOverlaps(findings);
}

function unitsByCodePoint(text: string): (codePoint: number) => number {
  if (!/[\ud800-\udbff]/.test(text)) return (codePoint) => Math.min(codePoint, text.length);
  const units = [0];
  for (const character of text) units.push((units.at(-1) as number) + character.length);
  return (codePoint) => units[codePoint] ?? text.length;
}
