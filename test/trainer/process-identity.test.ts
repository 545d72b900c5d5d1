// A process whose first thread has ended lives on in its others: the ports that it listens on are still taken.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isPortFree } from '../../src/dev/ports.ts';
import { endProcessGroup, identifyProcess, isAlive, waitUntilGone } from '../../src/trainer/process-identity.ts';

const PYTHON = resolve('.anneal/venv/bin/python');

const FIRST_THREAD_ENDS = `
import ctypes, socket, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=threading.Event().wait).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
`;

test.skipIf(process.platform !== 'linux')(
  'a process counts as gone when its last thread is, not its first',
  async () => {
    const child = spawn(PYTHON, ['-c', FIRST_THREAD_ENDS], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    const identity = identifyProcess(child.pid as number);
    if (identity === null) throw new Error('the process did not start');
    onTestFinished(async () => endProcessGroup(identity, 0));
    const [port] = (await once(child.stdout, 'data')) as [Buffer];
    await expect.poll(() => stateOf(identity.pid)).toBe('Z');
    expect(isAlive(identity)).toBe(true);
    expect(await waitUntilGone(identity, 50)).toBe(false);
    expect(await isPortFree(Number(port))).toBe(false);
    await endProcessGroup(identity, 0);
    expect(isAlive(identity)).toBe(false);
    expect(await isPortFree(Number(port))).toBe(true);
  },
);

function stateOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0];
}
