// Makes the fields of a known shape from a source's own columns, by the templates of `columns`.
import { type Columns, type ColumnTarget, isListTarget, isTextTarget } from '../../contracts/column-map.ts';
import { AnnealError } from '../../contracts/failure.ts';
import { columnsOf, type Piece, parseTemplate, wholeColumn } from '../../contracts/template.ts';
import { type Fields, isPresent } from '../fields.ts';
import { RowFault } from '../turns.ts';
import { listNames, lookUp, namesOf } from './look-up.ts';

/** @throws RowFault `missing_field` where a column that a template needs is not there or empty. */
export type ColumnMapper = (row: Fields) => Fields;

export function createColumns(columns: Columns): ColumnMapper {
  const targets = Object.entries(columns).map(([target, template]) => ({
    target: target as ColumnTarget,
    pieces: parseTemplate(template),
  }));
  return (row) => {
    const mapped: Fields = {};
    for (const { target, pieces } of targets) {
      const value = fieldOf(row, target, pieces);
      if (value !== undefined) mapped[target] = value;
    }
    return mapped;
  };
}

/**
 * A table is wrong as a whole when a column that is needed is not in its header.
 * @throws AnnealError `data_rejected` naming the columns that there are.
 */
export function requireColumns(columns: Columns, header: readonly string[], name: string): void {
  const row = Object.fromEntries(header.map((column) => [column, '']));
  for (const [target, template] of Object.entries(columns))
    for (const column of columnsOf(parseTemplate(template), 'needed')) {
      // A path leads into a value, which only a row has.
      if (lookUp(row, column) !== undefined || isPathInto(row, column)) continue;
      throw new AnnealError(
        'data_rejected',
        `${name} has no column \`${column}\`, which \`columns.${target}\` names; it has ${listNames(header)}. Correct \`columns\`.`,
      );
    }
}

function isPathInto(row: Fields, column: string): boolean {
  const [first] = /^[^.[\]]+/.exec(column) ?? [];
  return first !== undefined && first !== column && Object.hasOwn(row, first);
}

function fieldOf(row: Fields, target: ColumnTarget, pieces: Piece[]): unknown {
  const whole = wholeColumn(pieces);
  if (isTextTarget(target) || whole === null) return renderText(row, target, pieces);
  const value = lookUp(row, whole.column);
  if (isEmpty(value)) {
    if (whole.isOptional) return undefined;
    throw missingColumn(row, whole.column, target);
  }
  return typeof value === 'object' || target === 'label' || isListTarget(target) ? value : textOf(value);
}

function renderText(row: Fields, target: ColumnTarget, pieces: Piece[]): string {
  return pieces.map((piece) => renderPiece(row, target, piece)).join('');
}

function renderPiece(row: Fields, target: ColumnTarget, piece: Piece): string {
  if (piece.kind === 'text') return piece.text;
  const value = lookUp(row, piece.column);
  if (piece.kind === 'section') return isEmpty(value) ? '' : renderText(row, target, piece.pieces);
  if (!isEmpty(value)) return textOf(value);
  if (piece.isOptional) return '';
  throw missingColumn(row, piece.column, target);
}

/** CSV has no other way to leave a value out. */
function isEmpty(value: unknown): boolean {
  return !isPresent(value) || (typeof value === 'string' && value.trim() === '');
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function missingColumn(row: Fields, column: string, target: ColumnTarget): RowFault {
  const isThere = lookUp(row, column) !== undefined;
  const sentence = isThere
    ? `${column} is empty, and \`columns.${target}\` needs it; fill it, or write {{${column}?}} where it may be empty`
    : `${column} is missing, and \`columns.${target}\` needs it; the row has ${namesOf(row)}: correct \`columns\`, or add it`;
  return new RowFault('missing_field', column, sentence);
}
