import { describe, expect, it, vi } from 'vitest';
import type { House } from '../state/page.svelte';
import { runKey } from './runkeys';

const press = (key: string, more: Partial<KeyboardEvent> = {}) => {
  const current = { id: 'x', state: 'running' };
  const start = vi.fn(async () => current);
  const runs = { current, put: () => undefined, asked: undefined };
  const event = { key, target: null, shiftKey: false, ...more } as KeyboardEvent;
  return runKey(event, { runs, api: { signal: start } } as unknown as House);
};

// There is no document here.
vi.stubGlobal('Element', class {});

describe('a key of a run', () => {
  it('is a letter with Shift, once', () => {
    expect(press('I', { shiftKey: true })).toBe(true);
    expect(press('I')).toBe(false); // Caps Lock.
    expect(press('I', { shiftKey: true, repeat: true })).toBe(false);
    expect(press('F2')).toBe(true);
  });
});
