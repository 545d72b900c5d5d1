// `anneal pool`: hosts, gangs, waiting requests and quotas of the GPU pool.
import { CliError, EXIT } from '../failures.ts';
import { createOutput } from '../output.ts';
import { withClient } from '../session.ts';
import { poolTables } from '../views/pool.ts';

export async function pool(options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const state = await client.pool.describe();
    if (output.json) output.result(state);
    else for (const line of poolTables(state, Date.now(), output.paint)) output.say(line);
    return EXIT.done;
  });
}

export async function setQuota(team: string, given: string, options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const gpus = given === 'none' ? null : Number(given);
  if (gpus !== null && !/^\d{1,6}$/.test(given)) {
    throw new CliError('usage', `A quota is a whole number of GPUs or \`none\`, got ${given}.`, EXIT.usage);
  }
  return withClient(async (client) => {
    const { quotas } = await client.pool.setQuota({ team, gpus });
    if (output.json) output.result({ quotas });
    else output.say(`Team ${team} may hold ${gpus === null ? 'as many GPUs as there are' : `${gpus} GPUs`} at once.`);
    return EXIT.done;
  });
}
