// What it takes to run one part of the stack: the command, its environment, when it is ready, how long it may take to leave.
import type { PartName } from './stack-layout.ts';

export interface PartPlan {
  name: PartName;
  command: string;
  args: string[];
  environment: Record<string, string>;
  /** What may help when it does not come up. */
  remedy?: string;
  /** Puts folders and files in order before each spawn. */
  prepare(): void;
  /** Between SIGTERM and SIGKILL, ms. */
  stopGraceMs: number;
  /** From spawn to ready on a loaded two-core machine, ms. */
  readyTimeoutMs: number;
  /** Whether the process `pid` serves now. Never throws; called again until it is so. */
  isReady(pid: number): Promise<boolean>;
}
