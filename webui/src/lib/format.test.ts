import { describe, expect, it } from 'vitest';
import { duration, outcome, runTime, size } from './format';
import type { Run } from './wire';

const run = (fields: Partial<Run>): Run => ({
  id: 'r',
  spec: { command: { shell: 'x' } },
  state: 'exited',
  createdMs: 0,
  sizes: { stdout: 0, stderr: 0, tty: 0 },
  host: 'h',
  ...fields,
});

describe('format', () => {
  it('sizes', () => {
    expect([0, 532, 999, 1000, 63_488, 1_500_000_000].map(size)).toEqual([
      '0 B',
      '532 B',
      '999 B',
      '1.0 KiB',
      '62 KiB',
      '1.4 GiB',
    ]);
  });

  it('durations', () => {
    expect([-5, 420, 12_000, 59_900, 185_000, 8_160_000, 273_600_000].map(duration)).toEqual([
      '0.0 s',
      '0.4 s',
      '12 s',
      '1m 00s',
      '3m 05s',
      '2h 16m',
      '3d 04h',
    ]);
  });

  it('how a run went', () => {
    expect(outcome(run({ exitCode: 0 }))).toEqual({ word: 'done', tone: 'ok' });
    expect(outcome(run({ exitCode: 3 }))).toEqual({ word: 'exit 3', tone: 'bad' });
    expect(outcome(run({ exitCode: 137, signal: 'KILL' }))).toEqual({ word: 'KILL', tone: 'bad' });
    expect(outcome(run({ state: 'lost' })).tone).toBe('bad');
    expect(outcome(run({ state: 'running', live: true })).word).toBe('running');
    expect(outcome(run({ state: 'running', live: false })).word).toBe('running on h');
    expect(runTime(run({ startedMs: 1000 }), 4000)).toBe('3.0 s');
    expect(runTime(run({}), 4000)).toBe('');
  });
});
