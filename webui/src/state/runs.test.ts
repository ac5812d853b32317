import { describe, expect, it, vi } from 'vitest';
import type { Api } from '../lib/api';
import type { Run, RunList, Viewer } from '../lib/wire';
import { lookOn } from './lookon';
import { Runs } from './runs.svelte';

const run = (at: number, state: Run['state'] = 'exited'): Run => ({
  id: `run-${String(at).padStart(6, '0')}`,
  spec: { command: { shell: `echo ${at}` } },
  state,
  createdMs: at,
  host: 'login1',
  sizes: { stdout: 0, stderr: 0, tty: 0 },
});
const range = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => run(from + i)).reverse();
const runsOf = (...answers: RunList[]) => {
  const api = {
    runs: async (_limit: number, _before?: string, where?: string) =>
      (where ? undefined : answers.shift()) ?? { runs: [] },
  } as unknown as Api;
  return new Runs(api, () => undefined);
};

describe('the history of runs', () => {
  it('is newest first and goes on where a page ended', async () => {
    const runs = runsOf({ runs: range(2, 4), next: 'run-000002' }, { runs: range(0, 2) });
    await runs.refresh();
    expect(runs.older).toBe('run-000002');
    await runs.loadOlder();
    expect(runs.list.map((each) => each.createdMs)).toEqual([3, 2, 1, 0]);
    expect(runs.older).toBeUndefined();
  });

  it('has no hole after a long time away', async () => {
    const runs = runsOf({ runs: range(0, 5) }, { runs: range(500, 700), next: 'run-000500' });
    await runs.refresh();
    await runs.refresh();
    expect(runs.list.at(-1)?.createdMs).toBe(500);
    expect(runs.older).toBe('run-000500');
  });

  it('keeps its place when what is new meets what is known', async () => {
    const runs = runsOf(
      { runs: range(10, 20), next: 'run-000010' },
      { runs: range(15, 25), next: 'run-000015' },
    );
    await runs.refresh();
    await runs.refresh();
    expect(runs.list).toHaveLength(15);
    expect(runs.older).toBe('run-000010');
  });

  it('stays bounded on a page that is open for days, and forgets nothing that lives', async () => {
    const runs = runsOf({ runs: [run(0, 'running')] });
    for (const each of range(1, 2501)) runs.put(each);
    await runs.refresh();
    expect(runs.list).toHaveLength(2001);
    expect(runs.list.at(-1)?.state).toBe('running');
    expect(runs.older).toBe('run-000501');
  });
});

describe('the clock of the node', () => {
  it('is learnt from what has just happened, not from a name that an old run gets', async () => {
    const runs = runsOf({ runs: [{ ...run(5), startedMs: 5, endedMs: 6 }, run(4, 'running')] });
    await runs.refresh();
    const told = (more: Partial<Run>) =>
      runs.event({ type: 'run', seq: 1, run: { ...run(5), startedMs: 5, endedMs: 6, ...more } });
    told({ name: 'a name' });
    told({ id: 'one of a page that was not read', pinned: true });
    expect(runs.skewMs).toBe(0);
    const ended = Date.now() + 3_600_000;
    told({ id: 'run-000004', startedMs: 4, endedMs: ended });
    expect(Math.abs(runs.skewMs - 3_600_000)).toBeLessThan(60_000);
  });
});

describe('who looks at a run', () => {
  const alice: Viewer = { user: 'alice', access: 'drive', sinceMs: 1 };
  const answering = (viewers: () => Promise<Viewer[]>, owner?: string) =>
    ({ viewers, owner }) as unknown as Api;

  it('is asked, and of a shared run nobody is known any more when that is refused', async () => {
    const runs = new Runs(
      answering(async () => [alice]),
      () => undefined,
    );
    await runs.look('mine');
    await runs.look(
      'theirs',
      answering(async () => [alice], 'alice'),
    );
    expect(runs.viewers).toEqual({ mine: [alice], theirs: [alice] });
    const refused = () => Promise.reject(new Error('not shared any more'));
    await runs.look('theirs', answering(refused, 'alice'));
    await runs.look('mine', answering(refused));
    expect(runs.viewers).toEqual({ mine: [alice], theirs: [] });
  });

  it('is asked again and again for a run of another user, while somebody looks', () => {
    vi.useFakeTimers();
    vi.stubGlobal('document', { visibilityState: 'visible' });
    const look = vi.fn(async () => undefined);
    lookOn(
      { look },
      'mine',
      answering(async () => []),
    );
    const stop = lookOn(
      { look },
      'theirs',
      answering(async () => [], 'alice'),
    );
    expect(look).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(6_000);
    expect(look).toHaveBeenCalledTimes(4);
    stop?.();
    vi.advanceTimersByTime(6_000);
    expect(look).toHaveBeenCalledTimes(4);
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });
});
