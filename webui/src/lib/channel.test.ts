import { beforeEach, describe, expect, it } from 'vitest';
import { Channel, CREDIT, type Follower, type Sender } from './channel';
import { frameOf } from './frames.fixture';
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

  it('tells about bytes that are gone, announced or not', () => {
    const channel = open(new Wire());
    channel.receive(frameOf.gap(0, 10));
    channel.receive(frameOf.stdout(12, 'x'));
    expect([gaps, seen]).toEqual([[10, 2], 'x']);
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
  it('is never more than the window beyond what was shown', () => {
    const wire = new Wire();
    const channel = open(wire);
    const piece = 'x'.repeat(16 * 1024);
    for (let sent = 0; sent < CREDIT; sent += piece.length)
      channel.receive(frameOf.stdout(sent, piece));
    expect(wire.credit).toBe(CREDIT);
    done.splice(0, 4).forEach((shown) => shown());
    expect(wire.credit).toBe(CREDIT + 4 * piece.length);
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
    const channel = open(new Wire());
    channel.receive(frameOf.stdout(0, 'x'.repeat(100_000)));
    channel.detach();
    const next = new Wire();
    channel.attach(next);
    expect(next.credit).toBe(CREDIT - 100_000);
    done.forEach((shown) => shown());
    expect(next.credit).toBe(CREDIT);
  });

  it('counts bytes that came twice', () => {
    const wire = new Wire();
    const channel = open(wire);
    const piece = 'x'.repeat(64 * 1024);
    channel.receive(frameOf.stdout(0, piece));
    channel.receive(frameOf.stdout(0, piece));
    expect(wire.credit).toBe(CREDIT + piece.length);
  });
});

describe('passing over', () => {
  it('goes on later, under another number, and keeps what was typed', () => {
    const wire = new Wire();
    const channel = open(wire);
    channel.receive(frameOf.stdout(0, 'abc'));
    channel.write(bytes('k'));
    channel.skip(2, { stdout: 100, stderr: 0, tty: 0 });
    channel.attach(wire);
    expect(wire.messages.at(-1)).toMatchObject({ type: 'open', channel: 2, from: { stdout: 100 } });
    expect(wire.typed).toEqual([
      [1, 'k'],
      [1, 'k'],
    ]);
    channel.receive(frameOf.stdout(99, 'xy'));
    expect(seen).toBe('abcy');
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
