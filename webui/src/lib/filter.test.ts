import { describe, expect, it } from 'vitest';
import { isNarrow, matches, NOTHING, ordered, query } from './filter';
import { viewerLines, viewing } from './viewers';
import type { Run } from './wire';

const run = (id: string, more: Partial<Run> = {}): Run => ({
  id,
  spec: { command: { shell: `echo ${id}` } },
  state: 'exited',
  exitCode: 0,
  createdMs: 1,
  host: 'login1',
  sizes: { stdout: 0, stderr: 0, tty: 0 },
  ...more,
});
const pty = { cols: 80, rows: 24 };

describe('a filter of runs', () => {
  it('says what the agent can look for, and no more', () => {
    expect(query(NOTHING)).toBe('');
    expect(query({ ...NOTHING, text: ' a&b=c ', outcome: 'live', kind: 'consoles' })).toBe(
      '&text=a%26b%3Dc&live=true&console=true',
    );
    expect(query({ ...NOTHING, outcome: 'failed', kind: 'commands' })).toBe(
      '&state=exited&console=false',
    );
    expect([isNarrow(NOTHING), isNarrow({ ...NOTHING, order: 'exit' })]).toEqual([false, true]);
  });

  it('finds by command and by name, whatever the case', () => {
    const named = run('a', { name: 'Equilibration' });
    const texts = ['EQUIL', 'echo A', ' ', 'zz'];
    expect(texts.map((text) => matches(named, { ...NOTHING, text }))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  it('tells outcomes and kinds apart', () => {
    const all: Record<string, Run> = {
      done: run('done'),
      failed: run('failed', { exitCode: 3 }),
      lost: run('lost', { state: 'lost' }),
      orphaned: run('orphaned', { state: 'orphaned' }),
      queued: run('queued', { state: 'queued' }),
      shell: run('shell', { state: 'running', spec: { command: 'loginShell', pty } }),
    };
    const of = (filter: Partial<typeof NOTHING>) =>
      Object.keys(all).filter((key) => matches(all[key] as Run, { ...NOTHING, ...filter }));
    expect(of({ outcome: 'live' })).toEqual(['orphaned', 'queued', 'shell']);
    expect(of({ outcome: 'done' })).toEqual(['done']);
    expect(of({ outcome: 'failed' })).toEqual(['failed']);
    expect(of({ outcome: 'lost' })).toEqual(['lost', 'orphaned']);
    expect(of({ kind: 'consoles' })).toEqual(['shell']);
  });

  it('orders, and keeps the newest first among those that are alike', () => {
    const list = [
      run('old', {
        createdMs: 1,
        startedMs: 1,
        endedMs: 100,
        sizes: { stdout: 5, stderr: 0, tty: 0 },
      }),
      run('bad', { createdMs: 2, startedMs: 2, endedMs: 3, exitCode: 2 }),
      run('live', { createdMs: 3, startedMs: 900, state: 'running', exitCode: undefined as never }),
      run('new', { createdMs: 4, startedMs: 4, endedMs: 5 }),
    ];
    const ids = (order: Parameters<typeof ordered>[1]) =>
      ordered(list, order, 1000).map(({ id }) => id);
    expect(ids('newest')).toEqual(['new', 'live', 'bad', 'old']);
    expect(ids('longest')).toEqual(['live', 'old', 'new', 'bad']);
    expect(ids('largest')).toEqual(['old', 'new', 'live', 'bad']);
    expect(ids('exit')).toEqual(['bad', 'new', 'old', 'live']);
  });
});

describe('who is looking', () => {
  it('is told by names, once for each user', () => {
    const viewer = (user: string, access: 'view' | 'drive') => ({ user, access, sinceMs: 0 });
    expect(viewing([viewer('a', 'drive')])).toBe('');
    const all = [viewer('a', 'drive'), viewer('b', 'view'), viewer('a', 'view')];
    expect(viewing(all)).toBe('3 viewing');
    expect(viewerLines(all)).toEqual(['a, 2 windows', 'b, looks on']);
  });
});
