// Counters of the gateway in Prometheus' text format. Labels are names of models that exist, so their number is bounded.

type Labels = Record<string, string>;

interface Series {
  name: string;
  kind: 'counter' | 'gauge';
  help: string;
  values: Map<string, number>;
}

export function createMetrics() {
  const requests = series('anneal_requests_total', 'counter', 'Chat requests by model and HTTP status.');
  const tokens = series('anneal_tokens_total', 'counter', 'Tokens by model and kind (prompt, completion).');
  const inFlight = series('anneal_requests_in_flight', 'gauge', 'Chat requests under way by model.');
  const ready = series('anneal_engine_ready', 'gauge', '1 when the engine can generate.');
  return {
    request: (model: string, status: number) => add(requests, { model, status: String(status) }, 1),
    tokens(model: string, prompt: number, completion: number) {
      add(tokens, { model, kind: 'prompt' }, prompt);
      add(tokens, { model, kind: 'completion' }, completion);
    },
    began: (model: string) => add(inFlight, { model }, 1),
    ended: (model: string) => add(inFlight, { model }, -1),
    text(isReady: boolean): string {
      ready.values.set('', isReady ? 1 : 0);
      return [requests, tokens, inFlight, ready].map(render).join('');
    },
  };
}

function series(name: string, kind: Series['kind'], help: string): Series {
  return { name, kind, help, values: new Map() };
}

function add({ values }: Series, labels: Labels, amount: number): void {
  const key = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, '_')}"`);
  values.set(key.join(','), (values.get(key.join(',')) ?? 0) + amount);
}

function render({ name, kind, help, values }: Series): string {
  const lines = [...values].map(([labels, value]) => `${name}${labels === '' ? '' : `{${labels}}`} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n${lines.join('')}`;
}
