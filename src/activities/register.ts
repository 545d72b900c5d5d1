// Stage `register`: an immutable, numbered version with everything that made it, and the alias `champion`.
import { Context } from '@temporalio/activity';
import { inputsOf } from '../contracts/data-spec.ts';
import { DatasetSchema, EvaluationSchema, TrainingSchema, type Version } from '../contracts/records.ts';
import { showUri } from '../contracts/source-uri.ts';
import type {
  Outcome,
  PlanRetrainingInput,
  RegisterInput,
  RegisterResult,
  RetrainingPlan,
  StageInput,
} from '../contracts/stages.ts';
import { giveBackFollowed } from '../data/source/follow.ts';
import { fixParent, parentOf } from '../registry/parent.ts';
import { listVersions, moveAlias, registerVersion } from '../registry/versions.ts';
import { digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import { createJson } from '../storage/record.ts';
import { identifyContent, runIdFor } from '../storage/run-id.ts';
import { codeIdentity } from '../telemetry/code-identity.ts';
import type { Parts } from './parts.ts';
import { readRecord, runStage } from './stage.ts';

export function createRegisterActivities(parts: Parts) {
  const { store } = parts;
  return {
    async register(input: RegisterInput): Promise<RegisterResult> {
      return await runStage('register', async () => {
        const model = input.spec.register.model ?? input.spec.name;
        const draft = await draftVersion(parts, input, model);
        const version = await registerVersion(store, draft);
        await moveAlias(store, {
          model,
          alias: 'champion',
          to: version.version,
          by: `run ${input.run}`,
          why: `The gate passed: ${draft.evaluation.gate.reason}`,
        });
        return {
          model,
          version: version.version,
          digest: version.digest,
          outcome: `${model} version ${version.version}, champion, digest ${version.digest.slice(0, 12)}${continuesText(version)}`,
        };
      });
    },

    /** What a retraining took of followed sources is new again for the next one, because its run has failed. */
    async giveBack({ run, spec }: StageInput): Promise<Outcome> {
      return await runStage('ingest', async () => {
        const given: string[] = [];
        for (const source of spec.data.sources) {
          if (source.follow && (await giveBackFollowed(store, { name: spec.name, run }, source)))
            given.push(showUri(source.uri));
        }
        return {
          outcome: given.length === 0 ? 'nothing to give back' : `gave back what it took of ${given.join(', ')}`,
        };
      });
    },

    /** Would a run on this content do anything new? Says which run it would be. */
    async planRetraining({
      spec,
      snapshot,
      contents,
      suites,
      sizeBytes,
    }: PlanRetrainingInput): Promise<RetrainingPlan> {
      return await runStage('ingest', async () => {
        const identities = inputsOf(spec.data).map(({ uri }, i) =>
          identifyContent(uri, contents[i] ?? { sha256: null, etag: null }),
        );
        const schedule = Context.current().info.workflowExecution?.workflowId ?? '';
        const { from } = spec.train;
        const parent = await parentOf(store, { run: schedule, from });
        const run = runIdFor(spec, identities, codeIdentity().digest, parent?.digest);
        if (sizeBytes === 0) return { run, skip: 'The sources have given nothing new since the last snapshot.' };
        const model = spec.register.model ?? spec.name;
        const recipe = recipeDigest(spec);
        const trained = (await listVersions(store, model)).findLast(
          (version) => version.data.snapshot === snapshot && version.recipeDigest === recipe,
        );
        if (trained !== undefined)
          return { run, skip: `The sources are unchanged since ${model} version ${trained.version}.` };
        if (from !== null && parent !== null) await fixParent(store, { run, from }, parent);
        await createJson(store, keys.handed(run), { snapshot, contents, ...(suites !== undefined && { suites }) });
        const evaluated = (await store.list(`runs/${run}/stages/evaluate-`)).length > 0;
        return {
          run,
          skip: evaluated
            ? `The sources are unchanged since run ${run}, which was evaluated and not registered.`
            : null,
        };
      });
    },
  };
}

async function draftVersion(
  parts: Parts,
  input: RegisterInput,
  model: string,
): Promise<Omit<Version, 'version' | 'writeId'>> {
  const { store } = parts;
  const { spec, run } = input;
  const dataset = await readRecord(store, keys.dataset(input.dataset), DatasetSchema);
  const training = await readRecord(store, input.training, TrainingSchema);
  const {
    predictions,
    examples: _examples,
    ...evaluation
  } = await readRecord(store, input.evaluation, EvaluationSchema);
  const { adapter: _adapter, outputs: _outputs, ...result } = training.result;
  const parent = await parentOf(store, { run, from: spec.train.from });
  return {
    model,
    run,
    createdAt: new Date().toISOString(),
    digest: training.adapter.digest,
    files: training.adapter,
    base: { name: spec.model.base, digest: training.baseDigest },
    parent: parent && { model: parent.model, version: parent.version, digest: parent.digest },
    peft: spec.train.tuning === 'full' ? 'none' : 'lora',
    data: {
      snapshot: dataset.snapshot,
      dataset: dataset.digest,
      accounts: dataset.accounts,
      system: dataset.system,
      templateSha256: dataset.tokens.templateSha256,
    },
    recipe: spec.train,
    recipeDigest: recipeDigest(spec),
    training: { ...result, seconds: training.seconds, recoveries: training.receipts.length, claim: training.claim },
    evaluation: { ...evaluation, predictionsDigest: predictions.digest },
    code: codeIdentity(),
  };
}

function continuesText({ parent }: Version): string {
  return parent === null ? '' : `, continues ${parent.model}@${parent.version}`;
}

/** Everything of a spec that decides a model's bytes besides the data. */
function recipeDigest(spec: RegisterInput['spec']): string {
  const { sources: _sources, ...data } = spec.data;
  const { from, ...recipe } = spec.train;
  // As it is written: that an alias names a newer version is no reason to train the same data once more.
  return digestOf({ base: spec.model.base, data, train: from === null ? recipe : spec.train });
}
