import { describe, expect, it } from 'vitest';
import { guestsOf, runOf, terms } from './sharing';
import type { Share } from './wire';

const share = (spec: Partial<Share['spec']>): Share => ({
  id: '1',
  owner: 'alice',
  title: 'x',
  createdMs: 0,
  spec: { object: { run: { run: 'r' } }, guests: ['bob', 'eve'], access: 'view', ...spec },
});

describe('a share', () => {
  it('reads names however they are separated, and tells the one that is none', () => {
    expect(guestsOf(' bob,eve;bob  a.b_c-1 ')).toEqual({
      guests: ['bob', 'eve', 'a.b_c-1'],
      wrong: undefined,
    });
    for (const name of ['../x', '-rf', 'a:b', '$(id)', 'é\u202e', 'a'.repeat(99)])
      expect(guestsOf(`bob ${name}`).wrong).toBe(name);
    expect(guestsOf(' , ').guests).toEqual([]);
  });

  it('is told in one line', () => {
    const hour = 3_600_000;
    expect(terms(share({ expiresMs: 3 * hour }), hour, true)).toBe(
      'with bob, eve · may look · 2 h 0 m left',
    );
    expect(terms(share({ expiresMs: hour, access: 'drive' }), hour, false)).toBe(
      'by alice · you may type · has ended',
    );
    expect(terms(share({ object: { file: { path: '/x' } } }), 0, true)).toMatch(/a file · since/);
    expect(runOf(share({}).spec.object)).toBe('r');
    expect(runOf({ file: { path: '/x' } })).toBeUndefined();
  });
});
