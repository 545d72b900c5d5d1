// Markdown that is readable in the Web UI: tables, and texts of people. Pure.

/** The Web UI draws tables without padding; an em space at each cell's end keeps them apart. */
const PAD = '\u2003';
/** Keeps a sign with its stage and a number with its unit: the first columns are narrow. */
const NO_BREAK = '\u00a0';

/** Only the last column may break its lines; it has no padding, which would become part of an address at its end. */
export function table(titles: string[], rows: string[][]): string {
  const line = (cells: string[]) => {
    const padded = cells.map((cell, i) => {
      const text = cell.replaceAll('|', '\\|');
      return i === cells.length - 1 ? text : `${text.replaceAll(' ', NO_BREAK)}${PAD}`;
    });
    return `| ${padded.join(' | ')} |`;
  };
  return [line(titles), line(titles.map(() => ':--')).replaceAll(PAD, ''), ...rows.map(line)].join('\n');
}

/** A text that people wrote, with nothing in it that Markdown would take for its own. */
export function plain(text: string): string {
  return text.replace(/[\\*_[\]<>#|~`]/g, '\\$&');
}
