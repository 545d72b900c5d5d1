// Stage `evaluate`: candidate and base model on the same held-out rows. Also waits for the host's GPU.
import { join } from 'node:path';
import { DatasetSchema, type Evaluation, EvaluationSchema, TrainingSchema } from '../contracts/records.ts';
import type { EvaluateInput, EvaluateResult } from '../contracts/stages.ts';
import { evaluate } from '../evaluation/evaluate.ts';
import { parentOf } from '../registry/parent.ts';
import { keys } from '../storage/keys.ts';
import { openBaseModel } from '../trainer/base-model.ts';
import { withGpuLock } from '../trainer/gpu-lock.ts';
import { formatSeconds } from '../trainer/progress.ts';
import type { GpuParts } from './parts.ts';
import { readRecord, rememberStage, runStage } from './stage.ts';

export function createEvaluateActivities(parts: GpuParts) {
  return {
    async evaluate(input: EvaluateInput): Promise<EvaluateResult> {
      return await runStage('evaluate', async (context) => {
        const { run, spec } = input;
        const dataset = await readRecord(parts.store, keys.dataset(input.dataset), DatasetSchema);
        const training = await readRecord(parts.store, input.training, TrainingSchema);
        const parent = await parentOf(parts.store, { run, from: spec.train.from });
        const remembered = {
          run,
          stage: 'evaluate',
          input: {
            dataset: dataset.digest,
            adapter: training.adapter.digest,
            base: training.baseDigest,
            spec: spec.evaluate,
            ...(parent && { parent: parent.digest }),
          },
          schema: EvaluationSchema,
        } as const;
        const { key, value } = await rememberStage(parts.store, remembered, () =>
          withGpuLock(parts.state, context.signal, async () => {
            const started = Date.now();
            return await evaluate({
              store: parts.store,
              python: parts.python,
              warmParent: parts.warmParent,
              folder: join(parts.state, 'gpu', 'runs', run, 'evaluate'),
              base: await openBaseModel(spec.model.base, parts.models),
              dataset: dataset.files,
              adapter: training.adapter,
              parent: parent && { name: `${parent.model}@${parent.version}`, files: parent.files },
              method: spec.train.method,
              spec: spec.evaluate,
              threads: spec.train.threads * spec.train.processes,
              signal: context.signal,
              onProgress: (done, of, phase) => {
                const left = done === 0 ? null : ((Date.now() - started) / 1000 / done) * (of - done);
                context.report({ phase, step: done, of, ...(left === null ? {} : { eta: formatSeconds(left) }) });
              },
            });
          }),
        );
        const { predictions: _predictions, ...evaluation } = value;
        return { record: key, evaluation, outcome: describe(value) };
      });
    },
  };
}

function describe({ base, control, candidate, rewards, gate, parent }: Evaluation): string {
  if (rewards !== null)
    return `${gate.verdict}: right about ${rewards.right.correct} of ${rewards.right.n} preferences${parent === null ? '' : `, beside ${parent.name}`}`;
  const score = (variant: Evaluation['base']) =>
    variant.match === null ? `loss ${variant.loss.toFixed(3)}` : `${variant.match.correct} of ${variant.match.n} right`;
  const before =
    control === null ? score(base) : `${score(base)} (${control.match?.correct ?? 0} with ${control.shots} examples)`;
  const between = parent === null ? '' : `, ${parent.name} ${score(parent)}`;
  return `${gate.verdict}: untuned ${before}${between}, tuned ${score(candidate)}`;
}
