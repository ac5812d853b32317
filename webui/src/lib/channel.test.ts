import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Channel, type Follower, type Sender } from './channel';
import { frameOf } from './frames.fixture';
import { LEAST, MOST } from './pace';
import type { Run, ViewerMessage } from './wire';

const NOTHING = { stdout: 0, stderr: 0, tty: 0 };
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (words: string) => new TextEncoder().encode(words);

class Wire implements Sender {
  messages: ViewerMessage[] = [];
  typed: [number, string][] = [];
  message = (message: ViewerMessage) => void this.messages.push(message);
  stdin = (_: number, seq: number, piece: Uint8Array) => void this.typed.push([seq, text(piece)]);
  get credit(): number {
    return this.messages.reduce(
      (sum, each) =>
        sum + (each.type === 'open' ? each.credit : each.type === 'credit' ? each.bytes : 0),
      0,
    );
  }
}

let seen = '';
let gaps: number[] = [];
let ended: Run | undefined;
let done: (() => void)[] = [];
const follower: Follower = {
  data: (_, piece, shown) => {
    seen += text(piece);
    done.push(shown);
  },
  gap: (_, missing) => gaps.push(missing),
  run: (run, last) => {
    if (last) ended = run;
  },
};
const open = (wire: Wire, from = NOTHING) => {
  const channel = new Channel(1, 'run', from, 'me', follower);
  channel.attach(wire);
  return channel;
};

beforeEach(() => {
  seen = '';
  gaps = [];
  ended = undefined;
  done = [];
});

describe('a channel', () => {
  it('shows a byte once, at its own offset', () => {
    const channel = open(new Wire());
    channel.receive(frameOf.stdout(0, 'abc'));
    channel.receive(frameOf.stdout(0, 'abc'));
    channel.receive(frameOf.stdout(1, 'bcde'));
    expect(seen).toBe('abcde');
  });

  it('goes on where it was after a reconnect', () => {
    const channel = open(new Wire());
    channel.receive(frameOf.stdout(0, 'abc'));
    // The second half of a message never came.
    channel.receive(frameOf.stdout(3, 'defgh').slice(0, 16));
    channel.detach();
    const next = new Wire();
    channel.attach(next);
    expect(next.messages).toMatchObject([{ type: 'open', run: 'run', from: { stdout: 3 } }]);
    channel.receive(frameOf.stdout(3, 'def'));
    expect(seen).toBe('abcdef');
  });

  it('tells about bytes that are gone', () => {
    const channel = open(new Wire());
    channel.receive(frameOf.gap(0, 10));
    channel.receive(frameOf.stdout(10, 'x'));
    expect([gaps, seen]).toEqual([[10], 'x']);
  });

  it('ends', () => {
    const wire = new Wire();
    const channel = open(wire);
    channel.receive(frameOf.end({ id: 'run', exitCode: 3 }));
    expect(ended?.exitCode).toBe(3);
    channel.attach(wire);
    expect(wire.messages.filter((each) => each.type === 'open')).toHaveLength(1);
    expect(channel.write(bytes('x'))).toBe(false);
  });
});

describe('credit', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  let sent = 0;
  let shown = 0;
  beforeEach(() => void (sent = shown = 0));

  /** Sends what is granted and shows it at so many bytes in a millisecond; returns the most that was not shown. */
  const flood = (wire: Wire, channel: Channel, rate: number, length: number): number => {
    const piece = 'x'.repeat(4096);
    let most = 0;
    for (const end = shown + length; shown < end; shown += piece.length) {
      for (; sent + piece.length <= wire.credit; sent += piece.length)
        channel.receive(frameOf.stdout(sent, piece));
      most = Math.max(most, sent - shown);
      vi.advanceTimersByTime(piece.length / rate);
      done.shift()?.();
    }
    return most;
  };

  it('is never more than the window beyond what was shown', () => {
    const wire = new Wire();
    const channel = open(wire);
    expect(flood(wire, channel, 1_000_000, 2_000_000)).toBeLessThanOrEqual(MOST);
    expect(wire.credit).toBeGreaterThan(2_000_000);
  });

  it('is what a slow page shows in some hundredths of a second, and more when it is fast again', () => {
    const wire = new Wire();
    const channel = open(wire);
    flood(wire, channel, 512, 500_000);
    const most = flood(wire, channel, 512, 500_000);
    expect(most).toBeLessThan(512 * 50);
    expect(most).toBeGreaterThanOrEqual(LEAST);
    flood(wire, channel, 4096, 1_000_000);
    expect(flood(wire, channel, 4096, 1_000_000)).toBeGreaterThan(100_000);
  });

  it('comes in large grants, and saying `done` twice grants once', () => {
    const wire = new Wire();
    const channel = open(wire);
    for (let i = 0; i < 100; i++) channel.receive(frameOf.stdout(i, 'k'));
    done.forEach((shown) => shown());
    done.forEach((shown) => shown());
    expect(wire.messages).toHaveLength(1);
  });

  it('after a reconnect leaves room for what is not shown yet', () => {
    const first = new Wire();
    const channel = open(first);
    channel.receive(frameOf.stdout(0, 'x'.repeat(10_000)));
    channel.detach();
    const next = new Wire();
    channel.attach(next);
    expect(next.credit).toBe(first.credit - 10_000);
  });

  it('counts bytes that came twice', () => {
    const wire = new Wire();
    const channel = open(wire);
    const before = wire.credit;
    const piece = 'x'.repeat(before / 2);
    channel.receive(frameOf.stdout(0, piece));
    channel.receive(frameOf.stdout(0, piece));
    expect(wire.credit).toBe(before + piece.length);
  });
});

describe('passing over', () => {
  it('is asked for, and told', () => {
    const wire = new Wire();
    const skipped = vi.fn();
    const channel = new Channel(1, 'run', NOTHING, 'me', { ...follower, skipped }, { behind: 9 });
    channel.attach(wire);
    expect(wire.messages).toMatchObject([{ type: 'open', behind: 9 }]);
    channel.receive(frameOf.stdout(0, 'abc'));
    channel.receive(frameOf.stdout(100, 'xy'));
    expect([seen, gaps]).toEqual(['abcxy', []]);
    expect(skipped).toHaveBeenCalledExactlyOnceWith('stdout', 97);
  });

  it('starts again elsewhere under another number, and keeps what was typed', () => {
    const wire = new Wire();
    const channel = open(wire);
    channel.receive(frameOf.stdout(0, 'abc'));
    channel.write(bytes('k'));
    channel.restart(2, { stdout: 2, stderr: 0, tty: 0 });
    channel.attach(wire);
    expect(wire.messages.at(-1)).toMatchObject({ type: 'open', channel: 2, from: { stdout: 2 } });
    expect(wire.typed).toEqual([
      [1, 'k'],
      [1, 'k'],
    ]);
    channel.receive(frameOf.stdout(2, 'cd'));
    expect(seen).toBe('abccd');
  });
});

describe('stdin', () => {
  it('that was not acknowledged is sent again under the same numbers', () => {
    const wire = new Wire();
    const channel = open(wire);
    ['a', 'b', 'c'].forEach((key) => channel.write(bytes(key)));
    channel.acknowledge(1);
    channel.detach();
    expect(channel.write(bytes('lost'))).toBe(false);
    const next = new Wire();
    channel.attach(next);
    expect(next.typed).toEqual([
      [2, 'b'],
      [3, 'c'],
    ]);
    expect(next.messages[0]).toMatchObject({ writer: 'me' });
    channel.write(bytes('d'));
    expect(next.typed.at(-1)).toEqual([4, 'd']);
  });

  it('waits while a program does not read, and then comes whole and in order', () => {
    const wire = new Wire();
    const channel = open(wire);
    const keys = Array.from({ length: 100 }, (_, i) => `${i},`);
    keys.forEach((key) => channel.write(bytes(key)));
    expect(wire.typed).toHaveLength(32);
    channel.acknowledge(32);
    expect(wire.typed.map(([, piece]) => piece).join('')).toBe(keys.join(''));
    expect(channel.write(new Uint8Array(2 << 20))).toBe(false);
  });
});
