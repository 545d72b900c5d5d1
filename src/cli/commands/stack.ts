// `anneal up`, `down`, `doctor`: printing for what `src/dev` does.
import type { StackPorts } from '../../dev/ports.ts';
import type { StackFile } from '../../dev/stack-file.ts';
import { PROJECT_FOLDER } from '../../telemetry/code-identity.ts';
import { EXIT, stackFailure } from '../failures.ts';
import { createOutput } from '../output.ts';
import { stateFolder, workerEnvironment } from '../settings.ts';
import { doctorLines } from '../views/doctor.ts';

export interface PortOptions {
  temporalPort?: number;
  webUiPort?: number;
  storePort?: number;
  gatewayPort?: number;
}

export async function up(options: PortOptions & { detach?: boolean; json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const commands = await import('../../dev/commands.ts');
  const ready = (stack: StackFile) => {
    if (output.json) output.result(linksOf(stack));
    else for (const line of readyLines(stack, options.detach ?? false)) output.say(line);
  };
  const outcome = await commands
    .up({
      project: PROJECT_FOLDER,
      state: stateFolder(),
      ports: portsOf(options),
      environment: workerEnvironment(),
      detach: options.detach ?? false,
      onLine: output.say,
      onReady: ready,
    })
    .catch(stackFailure);
  if (outcome === 'ran_already') output.say('The stack was running already.');
  return EXIT.done;
}

export async function down(options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const commands = await import('../../dev/commands.ts');
  const { stopped } = await commands.down({ state: stateFolder() }).catch(stackFailure);
  if (output.json) output.result({ stopped });
  else output.say(stopped.length > 0 ? `Stopped ${stopped.join(', ')}.` : 'Nothing was running.');
  return EXIT.done;
}

export async function doctor(options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const commands = await import('../../dev/commands.ts');
  const report = await commands.doctor({ project: PROJECT_FOLDER, state: stateFolder() });
  if (output.json) output.result(report);
  else for (const line of doctorLines(report.checks, output.paint)) output.say(line);
  return report.ok ? EXIT.done : EXIT.failed;
}

export function portsOf({ temporalPort, webUiPort, storePort, gatewayPort }: PortOptions): Partial<StackPorts> {
  return {
    ...(temporalPort !== undefined && { temporal: temporalPort }),
    ...(webUiPort !== undefined && { webUi: webUiPort }),
    ...(storePort !== undefined && { store: storePort }),
    ...(gatewayPort !== undefined && { gateway: gatewayPort }),
  };
}

/** What programs need to reach the stack; the credentials stay in the state folder. */
function linksOf(stack: StackFile): Record<string, unknown> {
  return {
    webUi: stack.webUi,
    gateway: stack.gateway,
    temporal: stack.environment.ANNEAL_TEMPORAL_ADDRESS,
    store: stack.environment.ANNEAL_S3_ENDPOINT,
    state: stateFolder(),
  };
}

function readyLines(stack: StackFile, detached: boolean): string[] {
  return [
    '',
    `  Temporal Web UI   ${stack.webUi}`,
    `  OpenAI-style API  ${stack.gateway}/v1`,
    `  Logs              anneal logs`,
    '',
    detached ? 'The stack runs in the background; end it with `anneal down`.' : 'Ctrl-C ends the stack.',
  ];
}
