// The names of the metrics that Grafana's dashboard asks for.
import { readFileSync } from 'node:fs';

const FILE = new URL('../../src/dev/compose/grafana/anneal.json', import.meta.url);

/** Each once. */
export function metricsOfDashboard(): string[] {
  const { panels } = JSON.parse(readFileSync(FILE, 'utf8')) as { panels: { targets: { expr: string }[] }[] };
  const names = panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) => expr.match(/\b[a-z]+(_[a-z]+)+\b(?![(])/g)),
  );
  return [...new Set(names.filter((name) => name !== null && !LABELS.includes(name)))] as string[];
}

const LABELS = ['service_name', 'error_type'];
