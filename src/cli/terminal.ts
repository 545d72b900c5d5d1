// A block of lines that is drawn again in place. One write per frame, inside a synchronised update, so that nothing flickers.
import { cutTo } from './views/format.ts';

export interface LiveBlock {
  draw(lines: string[]): void;
  /** Leaves the last frame on the screen and gives the cursor back. */
  end(): void;
}

const ESC = '\u001b[';
const HIDE_CURSOR = `${ESC}?25l`;
const SHOW_CURSOR = `${ESC}?25h`;
const BEGIN_FRAME = `${ESC}?2026h`;
const END_FRAME = `${ESC}?2026l`;

export function createLiveBlock(stream: {
  write(text: string): unknown;
  columns?: number | undefined;
  rows?: number | undefined;
}): LiveBlock {
  let drawn = 0;
  return {
    draw(lines) {
      // A block higher than the screen cannot be drawn over: its top has scrolled away.
      const visible = lines.slice(0, Math.max(1, (stream.rows ?? lines.length + 1) - 1));
      const width = stream.columns ?? Number.POSITIVE_INFINITY;
      const up = drawn > 0 ? `${ESC}${drawn}A\r` : '';
      const body = visible.map((line) => `${ESC}2K${cutTo(line, width)}\n`).join('');
      stream.write(`${BEGIN_FRAME}${drawn === 0 ? HIDE_CURSOR : ''}${up}${body}${ESC}0J${END_FRAME}`);
      drawn = visible.length;
    },
    end() {
      if (drawn > 0) stream.write(SHOW_CURSOR);
      drawn = 0;
    },
  };
}
