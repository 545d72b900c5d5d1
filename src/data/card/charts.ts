// The card's charts as inline SVG. Without a view box: widths are shares of the page and texts keep their size on a phone.
import { bucketStart } from '../profile/log-buckets.ts';
import { html, type Markup } from './markup.ts';
import { compact } from './wording.ts';

const BAR_HEIGHT = 12;
const HISTOGRAM_HEIGHT = 120;
const AXIS_HEIGHT = 20;
const LABEL_HEIGHT = 16;
/** Ticks that a phone has room for. */
const TICKS_MAX = 6;
const BUCKETS_A_DOUBLING = 4;

/** One bar of a row of bars: from a share of the whole on. A row that is there is seen, however few it is. */
export function shareBar(from: number, share: number, kind: string): Markup {
  const least = share > 0 ? Math.max(share, 0.004) : 0;
  const start = Math.min(from, 1 - least);
  return html`<svg class="bar" height="${BAR_HEIGHT}" role="presentation"><rect class="track" width="100%" height="${BAR_HEIGHT}" rx="3" /><rect class="${kind}" x="${percentOf(start)}" width="${percentOf(least)}" height="${BAR_HEIGHT}" rx="3" /></svg>`;
}

/** Parts of a whole side by side. */
export function stackedBar(parts: { share: number; kind: string }[]): Markup {
  let from = 0;
  const rects = parts.map(({ share, kind }) => {
    const rect = html`<rect class="${kind}" x="${percentOf(from)}" width="${percentOf(share)}" height="18" />`;
    from += share;
    return rect;
  });
  return html`<svg class="bar stacked" height="18" role="presentation">${rects}</svg>`;
}

export interface Marker {
  label: string;
  at: number;
  /** Drawn as a limit, not as a measure. */
  isLimit?: boolean;
}

/** Bars of a histogram in buckets of 19 %, with an axis that doubles and lines at what is marked. */
export function lengthHistogram(histogram: number[], markers: Marker[], title: string): Markup {
  const first = histogram.findIndex((n) => n > 0);
  if (first === -1) return html``;
  const shown = { from: first - (first % BUCKETS_A_DOUBLING), to: lastBucket(histogram, markers) };
  const place = (bucket: number) => (bucket - shown.from) / (shown.to - shown.from);
  const most = Math.max(...histogram);
  const base = LABEL_HEIGHT + HISTOGRAM_HEIGHT;
  const bars = histogram.slice(shown.from).map((n, i) => {
    const height = n === 0 ? 0 : Math.max(1.5, (n / most) * HISTOGRAM_HEIGHT);
    const width = 1 / (shown.to - shown.from);
    return html`<rect class="column" x="${percentOf(place(shown.from + i) + width * 0.08)}" y="${fixed(base - height)}" width="${percentOf(width * 0.84)}" height="${fixed(height)}" rx="1.5" />`;
  });
  return html`<svg class="chart" height="${base + AXIS_HEIGHT}" role="img" aria-label="${title}">${bars}<line class="axis" x1="0" x2="100%" y1="${base}" y2="${base}" />${ticksOf(shown, place, base)}${markers.map((marker) => markerLine(marker, place, base))}</svg>`;
}

function lastBucket(histogram: number[], markers: Marker[]): number {
  const limits = markers.filter(({ isLimit }) => isLimit).map(({ at }) => Math.ceil(bucketNumber(at)) + 1);
  const last = Math.max(histogram.length, ...limits);
  return last + ((BUCKETS_A_DOUBLING - (last % BUCKETS_A_DOUBLING)) % BUCKETS_A_DOUBLING);
}

function ticksOf(
  { from, to }: { from: number; to: number },
  place: (bucket: number) => number,
  base: number,
): Markup[] {
  const doublings = (to - from) / BUCKETS_A_DOUBLING;
  const step = Math.max(1, Math.ceil(doublings / TICKS_MAX)) * BUCKETS_A_DOUBLING;
  const ticks: Markup[] = [];
  for (let bucket = from; bucket <= to; bucket += step) {
    const anchor = bucket === from ? 'start' : bucket === to ? 'end' : 'middle';
    ticks.push(
      html`<text class="tick" x="${percentOf(place(bucket))}" y="${base + 15}" text-anchor="${anchor}">${compact(bucketStart(bucket))}</text>`,
    );
  }
  return ticks;
}

function markerLine({ label, at, isLimit }: Marker, place: (bucket: number) => number, base: number): Markup {
  const x = Math.min(1, Math.max(0, place(bucketNumber(at))));
  // A limit and a measure that lie side by side are written away from each other.
  const anchor = isLimit ? (x > 0.85 ? 'end' : 'start') : x < 0.15 ? 'start' : 'end';
  return html`<line class="${isLimit ? 'limit' : 'marker'}" x1="${percentOf(x)}" x2="${percentOf(x)}" y1="${LABEL_HEIGHT}" y2="${base}" /><text class="${isLimit ? 'limit-label' : 'marker-label'}" x="${percentOf(x)}" y="11" text-anchor="${anchor}">${label}</text>`;
}

function bucketNumber(length: number): number {
  return BUCKETS_A_DOUBLING * Math.log2(Math.max(1, length));
}

function percentOf(share: number): string {
  return `${fixed(share * 100)}%`;
}

function fixed(n: number): string {
  return String(Number(n.toFixed(2)));
}
