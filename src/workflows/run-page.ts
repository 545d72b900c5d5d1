// What people see of a run while it goes: the status query, the Markdown page in the Web UI, search attributes, activity summaries.

import { defineSearchAttributeKey, type Priority } from '@temporalio/common';
import {
  ActivityFailure,
  ApplicationFailure,
  defineQuery,
  isCancellation,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import { isFailureKind } from '../contracts/failure.ts';
import { PAUSED, SEARCH_ATTRIBUTES, STAGES, STATUS_QUERY, type Stage } from '../contracts/names.ts';
import { plural } from '../contracts/plural.ts';
import { describeTuning } from '../contracts/recipe-text.ts';
import { showUri } from '../contracts/source-uri.ts';
import type { Spec } from '../contracts/spec.ts';
import type {
  DeployResult,
  EvaluateResult,
  IngestResult,
  PreprocessResult,
  RegisterResult,
  TrainResultSummary,
} from '../contracts/stages.ts';
import type { RunStatus, StageStatus } from '../contracts/status.ts';
import { renderRunPage } from './run-page-text.ts';

const attributes = {
  stage: defineSearchAttributeKey(SEARCH_ATTRIBUTES.stage, 'KEYWORD'),
  model: defineSearchAttributeKey(SEARCH_ATTRIBUTES.model, 'KEYWORD'),
  dataset: defineSearchAttributeKey(SEARCH_ATTRIBUTES.dataset, 'KEYWORD'),
};

export const statusQuery = defineQuery<RunStatus>(STATUS_QUERY);

/** Decisions that are kept; the workflow's history has them all. */
const DECISIONS_MAX = 50;

export interface StageCall {
  activityId: string;
  summary: string;
  priority?: Priority;
}

export interface RunPage {
  /** Runs the story; its failure becomes the run's, with one clear sentence. */
  keep(story: () => Promise<void>): Promise<RunStatus>;
  begin(spec: Spec): void;
  /** Notes what the run is told and what becomes of it. */
  update(change: Pick<RunStatus, 'paused' | 'gpuSeconds' | 'size'>): void;
  decide(by: string, what: string, why: string): void;
  /** Says how far the running stage is. */
  progress(stage: Stage, text: string): void;
  /** Lets the list of workflows say whether it waits for somebody. */
  markPaused(isPaused: boolean): void;
  /** Runs one stage and notes what came out of it. */
  stage<R extends { outcome: string }>(stage: Stage, call: (options: StageCall) => Promise<R>): Promise<R>;
}

export function openRunPage(run: string): RunPage {
  const status: RunStatus = {
    run,
    name: '',
    model: '',
    stages: STAGES.map((stage) => ({ stage, state: 'waiting', seconds: null, outcome: null })),
    data: null,
    evaluation: null,
    training: null,
    version: null,
    endpoint: null,
    paused: null,
    decisions: [],
    gpuSeconds: 0,
    failure: null,
  };
  let priority: Priority | undefined;
  let summaries: Partial<Record<Stage, string>> = {};
  setHandler(statusQuery, () => status, {
    description: 'Stages, data accounts, training, evaluation, version and endpoint of this run.',
  });
  const show = () => setCurrentDetails(renderRunPage(status));

  return {
    async keep(story) {
      show();
      try {
        await story();
        return status;
      } catch (error) {
        status.failure = describeFailure(error, run);
        status.card = cardOf(error) ?? status.card ?? null;
        status.paused = null;
        throw isCancellation(error)
          ? error
          : ApplicationFailure.nonRetryable(status.failure.message, status.failure.kind);
      } finally {
        show();
      }
    },

    begin(spec) {
      status.name = spec.name;
      status.model = spec.register.model ?? spec.name;
      for (const later of STAGES.slice(STAGES.indexOf(spec.until) + 1)) stageOf(status, later).state = 'skipped';
      summaries = summariesOf(spec);
      priority = priorityOf(spec);
      upsertSearchAttributes([{ key: attributes.model, value: status.model }]);
    },

    update(change) {
      Object.assign(status, change);
      show();
    },

    decide(by, what, why) {
      const decision = { at: new Date().toISOString(), by, what, why };
      status.decisions = [...(status.decisions ?? []), decision].slice(-DECISIONS_MAX);
      show();
    },

    progress(stage, text) {
      stageOf(status, stage).outcome = text;
      show();
    },

    markPaused(isPaused) {
      upsertSearchAttributes([{ key: attributes.stage, value: isPaused ? PAUSED : 'train' }]);
    },

    async stage(stage, call) {
      const entry = stageOf(status, stage);
      const started = Date.now();
      entry.state = 'running';
      upsertSearchAttributes([{ key: attributes.stage, value: stage }]);
      show();
      try {
        const options = { activityId: stage, summary: summaries[stage] ?? stage };
        const result = await call(priority === undefined ? options : { ...options, priority });
        Object.assign(entry, { state: 'done', outcome: result.outcome } satisfies Partial<StageStatus>);
        note(status, stage, result);
        return result;
      } catch (error) {
        entry.state = 'failed';
        if (isCancellation(error)) entry.outcome = 'cancelled';
        throw error;
      } finally {
        entry.seconds = (Date.now() - started) / 1000;
        show();
      }
    },
  };
}

/** How the activities wait for workers; a run of before has no `queue`. */
function priorityOf({ queue }: Spec): Priority | undefined {
  const { team = null, priority = null } = queue ?? {};
  if (team === null && priority === null) return undefined;
  return { ...(priority === null ? {} : { priorityKey: priority }), ...(team === null ? {} : { fairnessKey: team }) };
}

function stageOf(status: RunStatus, stage: Stage): StageStatus {
  return status.stages[STAGES.indexOf(stage)] as StageStatus;
}

function note(status: RunStatus, stage: Stage, result: unknown): void {
  switch (stage) {
    case 'ingest':
      status.sourceBytes = (result as IngestResult).sizeBytes;
      return;
    case 'preprocess': {
      const { accounts, dataset, card, seconds } = result as PreprocessResult;
      Object.assign(status, { data: accounts, card: card ?? null } satisfies Partial<RunStatus>);
      if (seconds !== undefined) status.preprocessSeconds = seconds;
      upsertSearchAttributes([{ key: attributes.dataset, value: dataset.slice(0, 16) }]);
      return;
    }
    case 'train': {
      const { outcome: _outcome, record: _record, ...training } = result as TrainResultSummary;
      status.training = training;
      return;
    }
    case 'evaluate':
      status.evaluation = (result as EvaluateResult).evaluation;
      return;
    case 'register':
      status.version = (result as RegisterResult).version;
      return;
    case 'deploy':
      status.endpoint = (result as DeployResult).endpoint;
      return;
    default:
      stage satisfies never;
  }
}

/** The line that the timeline shows beside an activity's name. */
function summariesOf(spec: Spec): Record<Stage, string> {
  const { train, data } = spec;
  const sources = data.sources.length === 1 ? showUri(data.sources[0]?.uri ?? '') : `${data.sources.length} sources`;
  const length = train.maxSteps === null ? plural(train.epochs, 'epoch') : plural(train.maxSteps, 'step');
  return {
    ingest: `${sources}`,
    preprocess: `clean, split ${Math.round(data.split.test * 100)} % for the test, tokenise`,
    train: `${spec.model.base}, ${describeTuning(train)}, ${length}`,
    evaluate: `up to ${spec.evaluate.rows} held-out rows against the untuned model`,
    register: `next version of ${spec.register.model ?? spec.name}`,
    deploy: `endpoint ${spec.deploy.endpoint ?? spec.name}`,
  };
}

/** Of data that a gate has refused. */
function cardOf(error: unknown): string | null {
  const cause = error instanceof ActivityFailure ? error.cause : null;
  const [details] = cause instanceof ApplicationFailure ? (cause.details ?? []) : [];
  return (details as { card?: string } | undefined)?.card ?? null;
}

function describeFailure(error: unknown, run: string): NonNullable<RunStatus['failure']> {
  if (isCancellation(error))
    return { kind: 'cancelled', message: `The run was cancelled; \`anneal resume ${run}\` goes on where it stopped.` };
  const cause = error instanceof ActivityFailure ? error.cause : error;
  const message = cause instanceof Error ? cause.message : String(error);
  const kind = cause instanceof ApplicationFailure && isFailureKind(cause.type) ? cause.type : 'trainer_bug';
  return { kind, message };
}
