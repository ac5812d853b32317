import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { frameOf } from './frames.fixture';
import { Live } from './live';

const NOTHING = { stdout: 0, stderr: 0, tty: 0 };

class Socket {
  binaryType = '';
  sent: (string | Uint8Array)[] = [];
  onopen = () => {};
  onmessage = (_: { data: unknown }) => {};
  onclose = () => {};
  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}
  send = (data: string | Uint8Array) => void this.sent.push(data);
  close = () => this.onclose();
  get types(): string[] {
    return this.sent
      .filter((each) => typeof each === 'string')
      .map((each) => JSON.parse(each).type);
  }
  data(channel: number, frame: Uint8Array): void {
    const message = new Uint8Array(4 + frame.length);
    new DataView(message.buffer).setUint32(0, channel);
    message.set(frame, 4);
    this.onmessage({ data: message.buffer });
  }
}

let sockets: Socket[];
const told = { up: vi.fn(), down: vi.fn(), rtt: vi.fn(), event: vi.fn(), problem: vi.fn() };
const start = () =>
  new Live({
    url: 'ws://localhost:1/v1/live',
    token: () => 'secret',
    visible: () => true,
    connect: (url, protocols) => {
      sockets.push(new Socket(url, protocols));
      return sockets.at(-1) as unknown as WebSocket;
    },
    ...told,
  });
const last = () => sockets.at(-1) as Socket;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  Object.values(told).forEach((each) => each.mockReset());
});
afterEach(() => vi.useRealTimers());

describe('the live socket', () => {
  it('carries the token in its protocols and not in its URL', () => {
    start();
    expect(last().protocols).toEqual(['hpcclient.v1', 'bearer.secret']);
    expect(last().url).not.toContain('secret');
  });

  it('connects again with growing pauses, and subscribes and opens again', () => {
    const live = start();
    last().onopen();
    let seen = '';
    live.follow('run', NOTHING, { data: (_, bytes) => (seen += new TextDecoder().decode(bytes)) });
    last().data(1, frameOf.stdout(0, 'abc'));
    last().onclose();
    expect(told.down).toHaveBeenCalledOnce();
    vi.advanceTimersByTime(400);
    expect(sockets).toHaveLength(2);
    last().onclose();
    vi.advanceTimersByTime(370);
    expect(sockets).toHaveLength(2);
    vi.advanceTimersByTime(300);
    expect(sockets).toHaveLength(3);
    last().onopen();
    expect(last().types).toEqual(['events', 'open', 'ping']);
    expect(JSON.parse(last().sent[1] as string)).toMatchObject({ from: { stdout: 3 } });
    last().data(1, frameOf.stdout(0, 'abcd'));
    expect(seen).toBe('abcd');
  });

  it('never waits longer than about 8 s, and not at all when asked', () => {
    const live = start();
    for (let i = 0; i < 10; i++) {
      last().onclose();
      vi.advanceTimersByTime(10_100);
      expect(sockets).toHaveLength(i + 2);
    }
    last().onclose();
    live.retry();
    expect(sockets).toHaveLength(12);
  });

  it('measures the round trip, and gives up a peer that is silent', () => {
    start();
    last().onopen();
    const ping = JSON.parse(last().sent.find((each) => String(each).includes('ping')) as string);
    vi.advanceTimersByTime(50);
    last().onmessage({ data: JSON.stringify({ type: 'pong', nonce: ping.nonce }) });
    expect(told.rtt).toHaveBeenCalledWith(50);
    vi.advanceTimersByTime(25_000);
    expect(told.down).toHaveBeenCalled();
  });

  it('does not lose its head over bytes that are not ours', () => {
    start();
    last().onopen();
    last().onmessage({ data: '{"type":"surprise"}' });
    expect(told.problem).toHaveBeenCalledOnce();
    expect(told.down).toHaveBeenCalledOnce();
  });

  it('ends a channel that the agent refused', () => {
    const live = start();
    last().onopen();
    const failed = vi.fn();
    live.follow('run', NOTHING, { data: () => {}, failed });
    const error = { code: 'notFound', message: 'no such run' };
    last().onmessage({ data: JSON.stringify({ type: 'error', channel: 1, error }) });
    expect(failed).toHaveBeenCalledWith(error);
    expect(told.problem).not.toHaveBeenCalled();
  });
});
