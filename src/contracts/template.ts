// Templates of `columns`: text with `{{column}}`, `{{column?}}` and `{{#column}}…{{/column}}`, which is left out where the column is empty.

export type Piece =
  | { kind: 'text'; text: string }
  | { kind: 'column'; column: string; isOptional: boolean }
  | { kind: 'section'; column: string; pieces: Piece[] };

const TAG = /\{\{\s*([#/]?)\s*([^{}]*?)\s*(\??)\s*\}\}/g;

/** @throws TypeError with what is wrong, fit for `must …`. */
export function parseTemplate(template: string): Piece[] {
  const open: { column: string; pieces: Piece[] }[] = [{ column: '', pieces: [] }];
  let at = 0;
  for (const tag of template.matchAll(TAG)) {
    addText(open, template.slice(at, tag.index));
    at = tag.index + tag[0].length;
    takeTag(open, tag[1] as '' | '#' | '/', tag[2] as string, tag[3] === '?');
  }
  addText(open, template.slice(at));
  const [root, ...unclosed] = open;
  const last = unclosed.at(-1);
  if (last !== undefined) throw new TypeError(`must close {{#${last.column}}} by {{/${last.column}}}`);
  return root?.pieces ?? [];
}

/** The names of all columns that it asks for; those it can do without are left out with `which: 'needed'`. */
export function columnsOf(pieces: Piece[], which: 'all' | 'needed' = 'all'): string[] {
  return pieces.flatMap((piece) => {
    if (piece.kind === 'text') return [];
    if (piece.kind === 'section') return which === 'all' ? [piece.column, ...columnsOf(piece.pieces)] : [];
    return which === 'all' || !piece.isOptional ? [piece.column] : [];
  });
}

/** The column whose value the template is, and not only holds; null where there is other text. */
export function wholeColumn(pieces: Piece[]): { column: string; isOptional: boolean } | null {
  const [only, ...more] = pieces;
  return only?.kind === 'column' && more.length === 0 ? only : null;
}

function addText(open: { pieces: Piece[] }[], text: string): void {
  if (text.includes('{{') || text.includes('}}'))
    throw new TypeError('must write columns as {{name}}, with both pairs of braces');
  if (text !== '') open.at(-1)?.pieces.push({ kind: 'text', text });
}

function takeTag(
  open: { column: string; pieces: Piece[] }[],
  mark: '' | '#' | '/',
  column: string,
  isOptional: boolean,
): void {
  if (column === '') throw new TypeError('must name a column between {{ and }}');
  const here = open.at(-1) as { column: string; pieces: Piece[] };
  switch (mark) {
    case '':
      here.pieces.push({ kind: 'column', column, isOptional });
      return;
    case '#': {
      const pieces: Piece[] = [];
      here.pieces.push({ kind: 'section', column, pieces });
      open.push({ column, pieces });
      return;
    }
    case '/':
      if (open.length === 1 || here.column !== column)
        throw new TypeError(`must open {{#${column}}} before it is closed`);
      open.pop();
      return;
    default:
      mark satisfies never;
  }
}
