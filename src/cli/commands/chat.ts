// `anneal chat`: asks an endpoint through the gateway, once or in turns.
import { createInterface } from 'node:readline/promises';
import { CliError, EXIT } from '../failures.ts';
import { chat as ask, type ChatMessage, listEndpoints, streamChat } from '../gateway.ts';
import { createOutput, type Output } from '../output.ts';
import { resolveEnvironment } from '../settings.ts';

export interface ChatOptions {
  message?: string;
  memory?: boolean;
  json?: boolean;
}

export async function chat(endpoint: string | undefined, options: ChatOptions): Promise<number> {
  const { ANNEAL_GATEWAY_URL: gateway, ANNEAL_SERVE_BASE: base } = await resolveEnvironment();
  const output = createOutput({ json: options.json ?? false });
  const model = endpoint ?? (await defaultEndpoint(gateway, base));
  if (options.message !== undefined) return askOnce(gateway, model, options.message, output);
  if (output.json) throw new CliError('usage', '--json needs --message.', EXIT.usage);
  return talk(gateway, model, options.memory ?? false, output);
}

/** The first endpoint; the base model when nothing has been deployed yet. */
async function defaultEndpoint(gateway: string, base: string): Promise<string> {
  const names = await listEndpoints(gateway);
  const chosen = names.find((name) => name !== base) ?? names[0];
  if (chosen === undefined) {
    throw new CliError('endpoint_not_found', 'Nothing is served yet; `anneal demo` deploys a model.');
  }
  return chosen;
}

async function askOnce(gateway: string, model: string, content: string, output: Output): Promise<number> {
  const messages: ChatMessage[] = [{ role: 'user', content }];
  if (output.json) output.result({ endpoint: model, answer: await ask({ gateway, model, messages }) });
  else await answer({ gateway, model, messages }, output);
  return EXIT.done;
}

async function talk(gateway: string, model: string, memory: boolean, output: Output): Promise<number> {
  const kept = memory ? 'earlier turns are sent along' : 'each message stands for itself (--memory keeps the turns)';
  output.say(`${output.paint.bold(model)} at ${gateway}; ${kept}. Ctrl-D ends.`);
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: output.paint.cyan('› ') });
  const turns: ChatMessage[] = [];
  let open = true;
  lines.once('close', () => {
    open = false;
  });
  lines.prompt();
  for await (const line of lines) {
    const content = line.trim();
    if (content !== '') {
      turns.push({ role: 'user', content });
      const text = await answer({ gateway, model, messages: memory ? turns : turns.slice(-1) }, output);
      turns.push({ role: 'assistant', content: text });
    }
    // At the end of a pipe the input is closed while its last lines are still being answered.
    if (open) lines.prompt();
  }
  output.say('');
  return EXIT.done;
}

async function answer(
  request: { gateway: string; model: string; messages: ChatMessage[] },
  output: Output,
): Promise<string> {
  let text = '';
  for await (const piece of streamChat(request)) {
    text += piece;
    output.stream.write(piece);
  }
  output.stream.write('\n');
  return text;
}
