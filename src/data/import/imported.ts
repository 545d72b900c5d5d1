// What importing another tool's dataset description gives, and how its keys are read: each is carried over or told of.
import type { z } from 'zod';
import type { DataSchema, SourceSchema } from '../../contracts/data-spec.ts';
import { AnnealError } from '../../contracts/failure.ts';
import type { Method } from '../../contracts/rows.ts';
import type { Fields } from '../fields.ts';

export type SourceInput = z.input<typeof SourceSchema>;

export interface Imported {
  data: z.input<typeof DataSchema>;
  /** The method that the rows are for. */
  method: Method;
  /** One sentence for each key that could not be carried over as it is. */
  notes: string[];
}

/** The keys of a description; `rest` names those that nobody asked for. */
export interface Keys {
  get(key: string): unknown;
  text(key: string): string | undefined;
  object(key: string): Keys;
  rest(): string[];
}

export function readKeys(value: unknown, where: string): Keys {
  const fields = requireFields(value, where);
  const asked = new Set<string>();
  const get = (key: string) => {
    asked.add(key);
    return fields[key] ?? undefined;
  };
  return {
    get,
    text(key) {
      const found = get(key);
      if (found === undefined || typeof found === 'string') return found;
      throw badDescription(`${where}.${key} must be text, found ${JSON.stringify(found)?.slice(0, 60)}`);
    },
    object: (key) => readKeys(get(key) ?? {}, `${where}.${key}`),
    rest: () => Object.keys(fields).filter((key) => !asked.has(key) && fields[key] !== null),
  };
}

function requireFields(value: unknown, where: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw badDescription(`${where} must be an object, found ${JSON.stringify(value)?.slice(0, 60)}`);
}

export function badDescription(what: string, remedy = 'correct it'): AnnealError {
  return new AnnealError('bad_request', `The description cannot be imported: ${what}; ${remedy}.`);
}

/** A column as a template; `optional` where rows may lack it. */
export function column(name: string, optional?: 'optional'): string {
  return `{{${name}${optional === undefined ? '' : '?'}}}`;
}

/** Text of one column, and of a second where it is not empty, on a line of its own. */
export function joined(first: string, second: string): string {
  return `{{${first}}}{{#${second}}}\n{{${second}}}{{/${second}}}`;
}

/** The source without fields that are undefined. */
export function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

/** A name on the Hugging Face hub, which is not read from afar. */
export function hubNote(name: string, where: string): string {
  return `${where}: ${name} lies on the Hugging Face hub; fetch it (\`hf download --repo-type dataset ${name} --local-dir ${name}\`) so that the source's path is there.`;
}
