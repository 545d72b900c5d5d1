// How quantities, bars and tables look on a terminal. Pure: nothing here reads the clock or the terminal.

/** Colours, or nothing where the output is not a terminal. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

const sgr =
  (on: number, off: number, enabled: boolean) =>
  (text: string): string =>
    enabled && text !== '' ? `\u001b[${on}m${text}\u001b[${off}m` : text;

export function createPaint(enabled: boolean): Paint {
  return {
    bold: sgr(1, 22, enabled),
    dim: sgr(2, 22, enabled),
    green: sgr(32, 39, enabled),
    red: sgr(31, 39, enabled),
    yellow: sgr(33, 39, enabled),
    cyan: sgr(36, 39, enabled),
  };
}

export function formatSeconds(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : formatSeconds(ms / 1000);
}

/** One unit only, for columns: `48 s`, `12 min`, `3 h`, `5 d`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function formatCount(n: number): string {
  return n.toLocaleString('en-US');
}

/** `812 bytes`, `1.3 MB`, `4.0 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return power === 0 ? `${bytes} bytes` : `${(bytes / 1000 ** power).toFixed(1)} ${units[power - 1]}`;
}

/** `n rows`, `1 row`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${formatCount(n)} ${n === 1 ? one : many}`;
}

export function formatPercent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

export function bar(done: number, of: number, width: number): string {
  const full = of > 0 ? Math.min(width, Math.floor((done / of) * width)) : 0;
  return '█'.repeat(full) + '░'.repeat(width - full);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what a colour code begins with
const COLOUR_CODE = /(\u001b\[[0-9;]*m)/g;

/** Columns that a text takes; colour codes take none. */
export function visibleWidth(text: string): number {
  return [...text.replace(COLOUR_CODE, '')].length;
}

/** The text cut to `width` columns with `…` at the end; colours stay whole. */
export function cutTo(text: string, width: number): string {
  if (visibleWidth(text) <= width) return text;
  let out = '';
  let taken = 0;
  for (const part of text.split(COLOUR_CODE)) {
    if (part.startsWith('\u001b')) {
      out += part;
      continue;
    }
    for (const character of part) {
      if (taken === width - 1) {
        out += '…';
        taken++;
      }
      if (taken >= width) break;
      out += character;
      taken++;
    }
  }
  return out;
}

/** Columns two spaces apart, each as wide as its widest cell; `right` names the columns of numbers. */
export function table(rows: string[][], right: number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, visibleWidth(cell));
    });
  }
  return rows.map((row) =>
    row
      .map((cell, i) => {
        const gap = ' '.repeat((widths[i] ?? 0) - visibleWidth(cell));
        return right.includes(i) ? gap + cell : cell + gap;
      })
      .join('  ')
      .trimEnd(),
  );
}

export function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim();
}

/** Lines of at most `width` columns, broken between words. For text without colours. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of oneLine(text).split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return line === '' ? lines : [...lines, line];
}
