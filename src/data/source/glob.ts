// Patterns in addresses: `*` and `?` within a name, `**` over folders, `[a-z]`, `{a,b}`.

/** Of a pattern, bytes: a longer one would be a way to make the matcher slow. */
const PATTERN_LENGTH_MAX = 1024;

export function isPattern(address: string): boolean {
  return /[*?[{]/.test(address);
}

/** The part before the first name that has a wildcard, with its last `/`. */
export function baseOf(pattern: string): string {
  const end = pattern.search(/[*?[{]/);
  return pattern.slice(0, pattern.lastIndexOf('/', end) + 1);
}

/** Matches whole names. @throws Error when the pattern is none. */
export function compileGlob(pattern: string): RegExp {
  if (pattern.length > PATTERN_LENGTH_MAX) throw new Error(`is longer than ${PATTERN_LENGTH_MAX} characters`);
  const tokens = pattern.match(/\*\*\/|\*+|\?|\[!?\]?[^\]]*\]|\{[^{}]*\}|./gsu) ?? [];
  return new RegExp(`^${tokens.map(toExpression).join('')}$`, 'u');
}

function toExpression(token: string): string {
  if (token === '**/') return '(?:[^/]+/)*';
  if (token === '*') return '[^/]*';
  if (token.startsWith('**')) return '.*';
  if (token === '?') return '[^/]';
  if (token.length > 2 && token.startsWith('[')) return toClass(token.slice(1, -1));
  if (token.length > 2 && token.startsWith('{'))
    return `(?:${token
      .slice(1, -1)
      .split(',')
      .map((one) => (one.match(/\*+|\?|./gsu) ?? []).map(toExpression).join(''))
      .join('|')})`;
  return escapeLiteral(token);
}

function toClass(members: string): string {
  const isNot = members.startsWith('!');
  const escaped = members.slice(isNot ? 1 : 0).replaceAll(/[\\\]^[]/g, '\\$&');
  return `(?!/)[${isNot ? '^' : ''}${escaped}]`;
}

function escapeLiteral(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}
