import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { followClosely, jump } from './catchup';
import type { Follower } from './channel';

const at = (tty: number) => ({ stdout: 0, stderr: 0, tty });
const patience = { behind: 1000, keep: 100 };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('catching up', () => {
  it('jumps to the end of what is too far ahead, and never back', () => {
    expect(jump(at(0), at(1000), patience)).toBeUndefined();
    expect(jump(at(0), at(1001), patience)).toEqual(at(901));
    expect(
      jump({ stdout: 0, stderr: 950, tty: 0 }, { stdout: 5000, stderr: 1000, tty: 0 }, patience),
    ).toEqual({
      stdout: 4900,
      stderr: 950,
      tty: 0,
    });
  });

  it('asks only in a flood', async () => {
    let inner: Follower | undefined;
    const skip = vi.fn();
    const live = {
      follow: (_: string, __: unknown, follower: Follower) => {
        inner = follower;
        return {
          offsets: () => at(0),
          skip,
          write: () => true,
          resize: () => true,
          close: () => {},
        };
      },
    };
    const run = vi.fn(() => Promise.resolve({ sizes: at(10_000_000) }));
    followClosely(live, { run } as never, 'r', at(0), { data: () => {} }, patience);
    inner?.data('tty', new Uint8Array(1000), () => {});
    await vi.advanceTimersByTimeAsync(300);
    expect(run).not.toHaveBeenCalled();
    inner?.data('tty', new Uint8Array(200_000), () => {});
    await vi.advanceTimersByTimeAsync(300);
    expect(skip).toHaveBeenCalledWith(at(9_999_900));
  });
});
