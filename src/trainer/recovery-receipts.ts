// Receipts of an attempt's recoveries: opened when a failure is dealt with, closed by the first new step after it.
import type { Receipt } from '../contracts/records.ts';
import type { ReceiptWriter } from '../storage/receipts.ts';

export type Recovery = Pick<Receipt, 'kind' | 'message' | 'atStep' | 'resumedFrom' | 'detectedMs' | 'action' | 'exact'>;

export interface RecoveryReceipts {
  open(claim: number, recovery: Recovery, nowMs: number): Receipt;
  /** There is a new step. */
  newStep(nowMs: number): void;
  /** The trainer that the last recovery started goes on from here. */
  resumed(from: number): void;
  all(): Receipt[];
}

/** Of a failure's message, characters. */
const MESSAGE_MAX = 2_000;

export function createRecoveryReceipts(writer: ReceiptWriter, processes: number): RecoveryReceipts {
  const receipts: Receipt[] = [];
  let opened: Receipt | null = null;

  const close = (nextNewStepMs: number | null, nowMs: number) => {
    if (opened === null) return;
    opened.nextNewStepMs = nextNewStepMs;
    opened.gpuSeconds = (processes * (nowMs - opened.atMs + opened.detectedMs)) / 1000;
    writer.write(opened, 'closed');
    opened = null;
  };

  return {
    open(claim, recovery, nowMs) {
      close(null, nowMs); // the one before it brought no new step
      const receipt: Receipt = {
        ...recovery,
        message: recovery.message.slice(0, MESSAGE_MAX),
        claim,
        number: receipts.filter((its) => its.claim === claim).length + 1,
        lostSteps: Math.max(0, recovery.atStep - recovery.resumedFrom),
        nextNewStepMs: null,
        gpuSeconds: (processes * recovery.detectedMs) / 1000,
        atMs: nowMs,
      };
      receipts.push(receipt);
      opened = receipt;
      if (receipt.action === 'stopped') close(null, nowMs);
      else writer.write(receipt, 'open');
      return receipt;
    },
    newStep(nowMs) {
      if (opened !== null) close(nowMs - opened.atMs, nowMs);
    },
    resumed(from) {
      if (opened === null) return;
      opened.resumedFrom = from;
      opened.lostSteps = Math.max(0, opened.atStep - from);
    },
    all: () => receipts.map((receipt) => ({ ...receipt })),
  };
}
