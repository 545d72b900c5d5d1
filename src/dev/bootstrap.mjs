#!/usr/bin/env node
import { exitLike, runCommand } from './set-up/command.mjs';
// The way into everything: puts in place what is missing, then runs a command with a Node that can run the sources.
// Plain JavaScript without packages, for Node 14 and later: it runs before anything is installed.
import { findNode } from './set-up/node.mjs';
import { setUp } from './set-up/plan.mjs';
import { SetUpError } from './set-up/set-up-error.mjs';
import { TOOL_CHAINS } from './set-up/tool-chains.mjs';

async function main(command, args) {
  const toolChain = TOOL_CHAINS[command];
  await setUp({ withModels: toolChain === undefined || toolChain.needsModels });
  const node = findNode();
  if (toolChain !== undefined) return await toolChain.run(node, args);
  return await runCommand(node, ['src/cli/main.ts', ...(command === undefined ? [] : [command]), ...args]);
}

try {
  const [command, ...args] = process.argv.slice(2);
  exitLike(await main(command, args));
} catch (error) {
  if (!(error instanceof SetUpError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
