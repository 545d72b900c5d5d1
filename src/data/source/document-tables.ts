// Tables of pages and Word documents as Markdown: without this each cell would be a paragraph, and nobody could tell what belongs together.
import type Turndown from 'turndown';

/** What is used of an element; the parser's own types are a browser's. */
interface Element {
  nodeName: string;
  children: ArrayLike<Element>;
  closest(selector: string): Element | null;
  querySelectorAll(selector: string): ArrayLike<Element>;
}

export function addTables(markdown: Turndown): void {
  const isData = new WeakMap<Element, boolean>();
  const isInData = (node: Element): boolean => {
    const table = node.closest('table');
    if (table === null) return false;
    const known = isData.get(table) ?? isDataTable(table);
    isData.set(table, known);
    return known;
  };
  const add = (name: string, tags: string[], replace: (content: string, node: Element) => string) =>
    markdown.addRule(name, {
      filter: (node) => tags.includes(node.nodeName) && isInData(node as unknown as Element),
      replacement: (content, node) => replace(content, node as unknown as Element),
    });
  add('cells', ['TH', 'TD'], (content) => ` ${oneLine(content)} |`);
  add('rows', ['TR'], (content, row) => `\n|${content}${isFirst(row) ? rule(row.children.length) : ''}`);
  add('parts of tables', ['THEAD', 'TBODY', 'TFOOT'], (content) => `\n${content.trim()}\n`);
  add('tables', ['TABLE'], (content) => `\n\n${content.trim()}\n\n`);
}

/** Others only place things on the page, and are read one cell after the other. */
function isDataTable(table: Element): boolean {
  const rows = Array.from(table.querySelectorAll('tr'));
  return rows.length > 1 && table.querySelectorAll('table').length === 0 && (rows[0]?.children.length ?? 0) > 1;
}

function isFirst(row: Element): boolean {
  return row.closest('table')?.querySelectorAll('tr')[0] === row;
}

/** What Markdown wants behind the first row. */
function rule(columns: number): string {
  return `\n|${' --- |'.repeat(columns)}`;
}

function oneLine(content: string): string {
  return content.trim().replaceAll(/\s+/g, ' ').replaceAll('|', '\\|');
}
