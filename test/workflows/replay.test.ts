// Runs that are under way survive a new release: the workflows of today agree with the histories of real runs, event by event.
import { fileURLToPath } from 'node:url';
import {
  bundleWorkflowCode,
  DefaultLogger,
  makeTelemetryFilterString,
  type ReplayResult,
  Runtime,
  Worker,
} from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, describe, expect, test } from 'vitest';
import { HISTORIES, type HistoryName, listHistories, readHistory, textOf } from '../support/histories.ts';

const silent = new DefaultLogger('ERROR', () => undefined);
const NAMES = Object.keys(HISTORIES) as HistoryName[];
const WORKFLOWS = fileURLToPath(new URL('../../src/workflows/index.ts', import.meta.url));
const CHANGED = fileURLToPath(new URL('../support/changed-workflows.ts', import.meta.url));

/** The outcome of each history, by its name. */
async function replayAll(workflowsPath: string): Promise<Map<string, ReplayResult['error']>> {
  const workflowBundle = await bundleWorkflowCode({ workflowsPath, logger: silent });
  const histories = NAMES.map((name) => ({ workflowId: name, history: readHistory(name) }));
  const outcomes = new Map<string, ReplayResult['error']>();
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, histories)) {
    outcomes.set(workflowId, error);
  }
  return outcomes;
}

const typesIn = (name: HistoryName) => readHistory(name).events.map(({ eventType }) => eventType);
const lastOf = (name: HistoryName) => typesIn(name).at(-1);

describe('replay', () => {
  let today: Map<string, ReplayResult['error']>;
  let changed: Map<string, ReplayResult['error']>;
  beforeAll(async () => {
    const filter = makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' });
    Runtime.install({ logger: silent, telemetryOptions: { logging: { filter } } });
    today = await replayAll(WORKFLOWS);
    changed = await replayAll(CHANGED);
  });

  test.each(NAMES)('%s: the workflows of today do what was recorded', (name) => {
    expect(today.has(name)).toBe(true);
    expect(today.get(name)).toBeUndefined();
  });

  test.each(NAMES)('%s: a changed workflow is caught', (name) => {
    expect(changed.get(name)).toBeInstanceOf(DeterminismViolationError);
  });
});

describe('the records', () => {
  test('there is a file for each, and none besides', () => {
    expect(listHistories().sort()).toEqual([...NAMES].sort());
  });

  test('they hold what their names say', () => {
    expect(lastOf('finished')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(lastOf('resumed')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(lastOf('cancelled')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED');
    expect(lastOf('gate-failed')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED');
    expect(textOf(readHistory('gate-failed'))).toContain('gate_failed');
    expect(textOf(readHistory('wrong-spec'))).toContain('did you mean `epochs`?');
    expect(typesIn('wrong-spec').filter((type) => type.includes('ACTIVITY_TASK_SCHEDULED'))).toHaveLength(1);
    expect(lastOf('killed-workers')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(controlWorkersIn('killed-workers').size).toBe(2);
    expect(attemptsIn('killed-workers')).toContain(2);
    expect(typesIn('retraining-run')).toContain('EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED');
    expect(typesIn('retraining-skipped')).not.toContain('EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED');
    expect(textOf(readHistory('retraining-skipped'))).toContain(
      'The sources are unchanged since retraining version 1.',
    );
  });

  test('they hold pauses, sweeps, and a gang that lost a host', () => {
    expect(lastOf('paused')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    const updates = (name: HistoryName) => typesIn(name).filter((type) => type.includes('UPDATE_COMPLETED'));
    expect(updates('paused')).toHaveLength(3);
    expect(typesIn('paused')).toContain('EVENT_TYPE_TIMER_CANCELED');
    expect(typesIn('paused').filter((type) => type.endsWith('ACTIVITY_TASK_CANCELED'))).toHaveLength(2);
    expect(textOf(readHistory('sweep'))).toContain('place 2 of 2 at 50 % of the steps, 1 went on');
    expect(typesIn('sweep-winner')).toContain('EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED');
    expect(lastOf('sweep-of-budget')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(typesIn('sweep-of-budget')).toContain('EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED');
    expect(textOf(readHistory('sweep-of-budget-winner'))).toContain('allot');
    expect(lastOf('two-hosts')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(lastOf('two-hosts-gang')).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
    expect(activitiesIn('two-hosts-gang')).toEqual(expect.arrayContaining(['train-1-1', 'judge-1', 'train-2-1']));
    expect(textOf(readHistory('anneal-gpu-pool'))).toContain('two-hosts-gang');
    const stays = typesIn('anneal-gpu-pool').filter((type) => type.endsWith('ACTIVITY_TASK_SCHEDULED'));
    expect(stays.length).toBeGreaterThanOrEqual(3);
  });

  test.each(NAMES)('%s tells nothing of the machine that it was recorded on', (name) => {
    const text = textOf(readHistory(name));
    expect(text).not.toMatch(/(^|["'\s(/])\/(home|root|tmp|work|Users|var)\//m);
    const hosts = [...text.matchAll(/\b(?:\d+|control|data|gpu)@([\w.]+)/g)].map(([, host]) => host);
    expect(hosts.length).toBeGreaterThan(0);
    // What the recorder calls them.
    expect(hosts.filter((host) => !['host', 'first', 'second'].includes(host as string))).toEqual([]);
  });
});

/** The attempt at which each activity was started for the last time. */
function attemptsIn(name: HistoryName): unknown[] {
  return readHistory(name).events.flatMap(
    (event) => (event.activityTaskStartedEventAttributes as { attempt?: number } | undefined)?.attempt ?? [],
  );
}

function activitiesIn(name: HistoryName): unknown[] {
  return readHistory(name).events.flatMap(
    (event) => (event.activityTaskScheduledEventAttributes as { activityId?: string } | undefined)?.activityId ?? [],
  );
}

/** A worker process that holds the workflow in its cache is told of news by a queue of its own. */
function controlWorkersIn(name: HistoryName): Set<string> {
  return new Set(textOf(readHistory(name)).match(/control@host-[0-9a-f]+/g));
}
