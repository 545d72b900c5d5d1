// The golden files of the seam, read by this suite and by the trainer's own: what one side writes, the other understands.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  EngineCommandSchema,
  EventSchema,
  EXIT_CODES,
  JobParentCommandSchema,
  JobSchema,
  LocalCheckpointSchema,
  PredictionSchema,
  ProbeResultSchema,
  TokeniseResultSchema,
  TrainResultSchema,
  WarmParentCommandSchema,
  WarmStateHeaderSchema,
} from '../../src/contracts/trainer-protocol.ts';

const GOLDEN = new URL('../golden/', import.meta.url);
const read = (name: string) => readFileSync(new URL(name, GOLDEN), 'utf8');
const readJson = (name: string): unknown => JSON.parse(read(name));
const readLines = (name: string): unknown[] =>
  read(name)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

interface Choice {
  options: { shape: Record<string, { value?: unknown }> }[];
}
const kindsOf = (schema: Choice, key: string) => schema.options.map((option) => option.shape[key]?.value).sort();

// Parsing drops unknown fields, so equality with the file also shows that it has none.
describe('golden files of the trainer protocol', () => {
  it.each(readdirSync(new URL('jobs/', GOLDEN)))('job %s parses to itself', (file) => {
    const job = readJson(`jobs/${file}`);
    expect(JobSchema.parse(job)).toEqual(job);
  });

  it('has a job of every command', () => {
    const commands = readdirSync(new URL('jobs/', GOLDEN)).map(
      (file) => (readJson(`jobs/${file}`) as { command: string }).command,
    );
    expect([...new Set(commands)].sort()).toEqual(kindsOf(JobSchema as unknown as Choice, 'command'));
  });

  it('has an event of every kind, and each parses to itself', () => {
    const events = readLines('events.ndjson');
    for (const event of events) expect(EventSchema.parse(event)).toEqual(event);
    const kinds = events.map((event) => (event as { ev: string }).ev).sort();
    expect(kinds).toEqual(kindsOf(EventSchema as unknown as Choice, 'ev'));
  });

  it.each([
    ['engine', EngineCommandSchema],
    ['warm-parent', WarmParentCommandSchema],
    ['job-parent', JobParentCommandSchema],
  ])('has a command to the %s of every kind, and each parses to itself', (name, schema) => {
    const commands = readLines(`${name}-commands.ndjson`);
    for (const command of commands) expect(schema.parse(command)).toEqual(command);
    const kinds = commands.map((command) => (command as { op: string }).op);
    expect([...new Set(kinds)].sort()).toEqual(kindsOf(schema as unknown as Choice, 'op'));
  });

  it('has results and files that parse to themselves', () => {
    const results = readJson('results.json') as Record<string, unknown>;
    expect(TokeniseResultSchema.parse(results.tokenise)).toEqual(results.tokenise);
    expect(TrainResultSchema.parse(results.train)).toEqual(results.train);
    for (const prediction of [results.prediction, results.pairPrediction, results.rewardPrediction])
      expect(PredictionSchema.parse(prediction)).toEqual(prediction);
    expect(ProbeResultSchema.parse(results.probe)).toEqual(results.probe);
    expect(LocalCheckpointSchema.parse(results.manifest)).toEqual(results.manifest);
    expect(WarmStateHeaderSchema.parse(results.warmState)).toEqual(results.warmState);
  });

  it('agrees on the exit codes', () => {
    expect(readJson('exit-codes.json')).toEqual(EXIT_CODES);
  });
});
