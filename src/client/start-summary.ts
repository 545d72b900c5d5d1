// What the Web UI says of a run before anything has run: one line in the list of workflows, and the main choices of its spec.
import { describeTuning } from '../contracts/recipe-text.ts';
import { showUri } from '../contracts/source-uri.ts';
import { parseSpec, type Spec } from '../contracts/spec.ts';

/** Temporal's API asks for at most 400 bytes, and a character needs up to three. */
const SUMMARY_CHARACTERS_MAX = 130;
/** Sources that are named, and the length of one: the API asks for at most 20,000 bytes. */
const SOURCES_MAX = 10;
const SOURCE_CHARACTERS_MAX = 200;

/** Nothing for a wrong spec: the run's failure says what is wrong with it. */
export function summariseInput(input: unknown): { staticSummary?: string; staticDetails?: string } {
  try {
    const spec = parseSpec(input);
    return { staticSummary: summaryOf(spec).slice(0, SUMMARY_CHARACTERS_MAX), staticDetails: detailsOf(spec) };
  } catch {
    return {};
  }
}

function summaryOf({ name, model, data, train }: Spec): string {
  const sources = data.sources.length === 1 ? '1 source' : `${data.sources.length} sources`;
  return `${name}: ${model.base}, ${describeTuning(train)}, ${sources}`;
}

function detailsOf({ data, train, model, until }: Spec): string {
  const named = data.sources.slice(0, SOURCES_MAX);
  const more = data.sources.length - named.length;
  const length = train.maxSteps === null ? `epochs ${train.epochs}` : `at most ${train.maxSteps} steps`;
  return [
    `- base model \`${model.base}\`, ${describeTuning(train)}, ${length}, learning rate ${train.learningRate}`,
    `- stages up to **${until}**`,
    ...named.map(({ uri }) => `- source \`${showUri(uri).slice(0, SOURCE_CHARACTERS_MAX)}\``),
    ...(more > 0 ? [`- and ${more} more sources`] : []),
  ].join('\n');
}
