import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Calm } from './calm';

describe('the end of a flood', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('is waited for, and the screen put right once', async () => {
    const settle = vi.fn(async () => true);
    const calm = new Calm(settle);
    calm.passed();
    for (let look = 0; look < 5; look++) {
      calm.came(1_000_000);
      calm.passed();
      await vi.advanceTimersByTimeAsync(300);
    }
    expect(settle).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(settle).toHaveBeenCalledTimes(1);
  });

  it('is steady output, too, once nothing is passed over', async () => {
    const settle = vi.fn(async () => true);
    const calm = new Calm(settle);
    calm.passed();
    for (let look = 0; look < 20; look++) {
      calm.came(100_000);
      await vi.advanceTimersByTimeAsync(300);
    }
    expect(settle).toHaveBeenCalledTimes(1);
  });

  it('is asked about again, more and more seldom, until it was answered', async () => {
    let answers = false;
    const settle = vi.fn(async () => answers);
    const calm = new Calm(settle);
    calm.passed();
    await vi.advanceTimersByTimeAsync(60_000);
    const asked = settle.mock.calls.length;
    expect(asked).toBeGreaterThan(5);
    expect(asked).toBeLessThan(15);
    answers = true;
    await vi.advanceTimersByTimeAsync(60_000);
    const all = settle.mock.calls.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(settle).toHaveBeenCalledTimes(all);
  });

  it('says when more was passed over meanwhile, and ends with its terminal', async () => {
    const stills: boolean[] = [];
    const calm: Calm = new Calm(async (isStill) => {
      calm.passed();
      stills.push(isStill());
      calm.stop();
      return false;
    });
    calm.passed();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(stills).toEqual([false]);
  });
});
