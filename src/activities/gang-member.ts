// One host's part in a gang of several: what it has to offer, and its part of the training.
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { Context } from '@temporalio/activity';
import { AnnealError } from '../contracts/failure.ts';
import type { HostOffer, MemberInput, MemberOutcome, OfferInput } from '../contracts/gang.ts';
import { MemberDied } from '../trainer/gang.ts';
import { trainAlong } from '../trainer/gang-member.ts';
import { listWarmSteps, openWarmRoot } from '../trainer/warm-state.ts';
import type { GpuParts } from './parts.ts';
import { runStage } from './stage.ts';
import { readInputs, recallTraining, type Turn, trainOnce, withHost, withLease } from './train.ts';

/** How the other hosts reach this one. */
export interface HostDoor {
  address: string;
  /** 0 = any free one. */
  port: number;
  /** It works for the shared queue. */
  isBusy: () => boolean;
}

export function createMemberActivities(parts: GpuParts, door: HostDoor) {
  return {
    async offerState(input: OfferInput): Promise<HostOffer> {
      return await runStage('train', async () => ({
        address: door.address,
        port: door.port === 0 ? await findFreePort(door.address) : door.port,
        interface: interfaceOf(door.address),
        warm: await warmSteps(parts, input),
        done: input.host === 0 ? await recallTraining(parts, input) : null,
        isBusy: door.isBusy(),
      }));
    },

    async trainMember({ seat, ...input }: MemberInput): Promise<MemberOutcome> {
      return await runStage<MemberOutcome>('train', async (context) => {
        refuseAgain();
        try {
          const result = await withLease(parts, input, context, (lease) =>
            seat.host === 0
              ? trainOnce({ parts, input, context, lease, gang: seat })
              : follow({ parts, input, context, lease, gang: seat }),
          );
          return { ended: 'done', result };
        } catch (error) {
          if (!(error instanceof MemberDied)) throw error;
          const { death, isCascade, microBatch } = error;
          return { ended: 'died', death, isCascade, microBatch, gpuSeconds: context.progress().gpuSeconds ?? null };
        }
      });
    },
  };
}

/** The server starts a member again that an operator has unpaused or reset; its gang has ended meanwhile. */
export function refuseAgain(): void {
  const { attempt, heartbeatDetails } = Context.current().info;
  if (attempt === 1 && heartbeatDetails === undefined) return;
  throw new AnnealError('preempted', 'An operator paused or reset this host’s part; the gang begins anew.');
}

async function follow(turn: Turn): Promise<null> {
  await withHost(turn, await readInputs(turn.parts, turn.input), trainAlong);
  return null;
}

async function warmSteps(
  { sharedMemory, state }: GpuParts,
  { run, spec, size, host }: OfferInput,
): Promise<HostOffer['warm']> {
  const root = await openWarmRoot(sharedMemory, state);
  if (root === null) return [];
  const { processes } = size ?? spec.train;
  const ranks = Array.from({ length: processes }, (_, i) => host * processes + i);
  return await listWarmSteps(root, run, ranks);
}

/** Found now, used a moment later: should another process take it in between, the gang fails and begins anew. */
async function findFreePort(address: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, address, resolve);
  });
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function interfaceOf(address: string): string {
  const all = Object.entries(networkInterfaces());
  const found = all.find(([, addresses]) => addresses?.some((its) => its.address === address));
  if (found !== undefined) return found[0];
  const known = all.flatMap(([, addresses]) => addresses ?? []).map((its) => its.address);
  throw new AnnealError(
    'bad_request',
    `ANNEAL_HOST_ADDRESS is ${address}, which is no address of this host; set it to one of ${known.join(', ')}.`,
  );
}
