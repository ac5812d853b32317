// The live socket: one WebSocket for every console, every followed run and the events.
//
// Made once by `state/page.svelte.ts`. It connects again by itself (0.25 s, doubling to 8 s), opens its
// channels again where they were, and subscribes to the events again.
// Invariants: the only `new WebSocket` of the page; the token goes in the sub-protocol list, never in
// the URL. Not here: what a channel remembers (`channel.ts`).
import { Channel, type Follower, type Sender, type Standing } from './channel';
import { uuidV7 } from './uuid';
import type {
  AgentMessage,
  ApiError,
  Event,
  StreamSizes,
  TerminalSize,
  ViewerMessage,
} from './wire';

const BACKOFF_MS = { first: 250, last: 8000 };
const PING_MS = 5000;
/** The bridge holds a request this long while it logs in again. */
const CONNECT_MS = 35_000;
const SILENCE_MS = 12_000;

export interface LiveOptions {
  url: string;
  token(): string;
  /** The socket opened. */
  up(): void;
  /** The socket is gone, or could not be opened; another attempt comes unless `close` is called. */
  down(): void;
  rtt(ms: number): void;
  event(event: Event): void;
  /** An error that belongs to no channel. */
  problem(error: ApiError): void;
  visible(): boolean;
  connect?(url: string, protocols: string[]): WebSocket;
}

/** A followed run, as tiles see it. */
export interface Following {
  /** The offset of the next byte of each stream. */
  offsets(): StreamSizes;
  /** Goes on at other offsets; what is still on its way for the old ones is dropped. */
  restart(from: StreamSizes): void;
  write(bytes: Uint8Array): boolean;
  resize(size: TerminalSize): boolean;
  close(): void;
}

export class Live implements Sender {
  readonly #options: LiveOptions;
  readonly #channels = new Map<number, Channel>();
  #socket: WebSocket | undefined;
  #up = false;
  #closed = false;
  #delay = BACKOFF_MS.first;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pinger: ReturnType<typeof setInterval> | undefined;
  #pings = new Map<number, number>();
  #nonce = 0;
  #heard = 0;
  #lastChannel = 0;

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#dial();
  }

  /** Follows a run from these offsets until it ends, over every reconnect. */
  follow(run: string, from: StreamSizes, follower: Follower, standing?: Standing): Following {
    const number = ++this.#lastChannel;
    const channel = new Channel(number, run, from, uuidV7(), follower, standing);
    this.#channels.set(channel.number, channel);
    if (this.#up) channel.attach(this);
    return {
      offsets: () => channel.offsets,
      restart: (at) => this.#restart(channel, at),
      write: (bytes) => channel.write(bytes),
      resize: (size) => channel.resize(size),
      close: () => {
        const known = this.#channels.delete(channel.number);
        if (known && !channel.ended) this.message({ type: 'close', channel: channel.number });
        channel.ended = true;
      },
    };
  }

  /** Tries again at once: the user asked, the network is back, the page is looked at again. */
  retry(): void {
    if (this.#up || this.#closed || this.#timer === undefined) return;
    this.#delay = BACKOFF_MS.first;
    this.#dial();
  }

  /** Ends it for good. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#socket?.close();
  }

  message(message: ViewerMessage): void {
    if (this.#up) this.#socket?.send(JSON.stringify(message));
  }

  stdin(channel: number, seq: number, bytes: Uint8Array): void {
    if (!this.#up) return;
    const message = new Uint8Array(12 + bytes.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, channel);
    view.setBigUint64(4, BigInt(seq));
    message.set(bytes, 12);
    this.#socket?.send(message);
  }

  /** Another number tells what is still on its way for the old place from what is new. */
  #restart(channel: Channel, from: StreamSizes): void {
    if (!this.#channels.delete(channel.number)) return;
    const old = channel.number;
    channel.restart(++this.#lastChannel, from);
    this.#channels.set(channel.number, channel);
    if (this.#up) channel.attach(this);
    // Last: who leaves before the next has come gives the terminal's size away.
    this.message({ type: 'close', channel: old });
  }

  #dial(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const connect = this.#options.connect ?? ((url, protocols) => new WebSocket(url, protocols));
    const protocols = ['hpcclient.v1', `bearer.${this.#options.token()}`];
    const socket = connect(this.#options.url, protocols);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    const slow = setTimeout(() => socket.close(), CONNECT_MS);
    socket.onopen = () => {
      clearTimeout(slow);
      this.#opened();
    };
    socket.onmessage = ({ data }) => {
      this.#heard = performance.now();
      try {
        if (typeof data === 'string') this.#text(JSON.parse(data) as AgentMessage);
        else this.#binary(new Uint8Array(data as ArrayBuffer));
      } catch (error) {
        // Bytes that are not ours: a new socket starts from the offsets we hold.
        this.#options.problem({ code: 'internal', message: `the live socket: ${String(error)}` });
        socket.close();
      }
    };
    socket.onclose = () => {
      clearTimeout(slow);
      if (this.#socket === socket) this.#lost();
    };
  }

  #opened(): void {
    this.#up = true;
    this.#delay = BACKOFF_MS.first;
    this.#heard = performance.now();
    this.message({ type: 'events' });
    for (const channel of this.#channels.values()) channel.attach(this);
    this.#ping();
    this.#pinger = setInterval(() => this.#ping(), PING_MS);
    this.#options.up();
  }

  #lost(): void {
    this.#up = false;
    this.#socket = undefined;
    this.#pings.clear();
    clearInterval(this.#pinger);
    for (const channel of this.#channels.values()) channel.detach();
    if (this.#closed) return;
    const jitter = 0.75 + Math.random() / 2;
    this.#timer = setTimeout(() => this.#dial(), this.#delay * jitter);
    this.#delay = Math.min(this.#delay * 2, BACKOFF_MS.last);
    this.#options.down();
  }

  #ping(): void {
    if (!this.#options.visible()) return;
    // A peer that answers no ping is gone, whatever the operating system still believes.
    const oldest = Math.min(...this.#pings.values());
    const now = performance.now();
    if (now - oldest > SILENCE_MS && now - this.#heard > SILENCE_MS) return this.#socket?.close();
    this.#pings.set(++this.#nonce, now);
    this.message({ type: 'ping', nonce: this.#nonce });
  }

  #text(message: AgentMessage): void {
    switch (message.type) {
      case 'pong': {
        const sent = this.#pings.get(message.nonce);
        this.#pings.clear();
        if (sent !== undefined) this.#options.rtt(performance.now() - sent);
        return;
      }
      case 'stdinAck':
        return this.#channels.get(message.channel)?.acknowledge(message.seq);
      case 'event':
        return this.#options.event(message.event);
      case 'error': {
        if (message.channel === undefined) return this.#options.problem(message.error);
        const channel = this.#channels.get(message.channel);
        this.#channels.delete(message.channel);
        return channel?.fail(message.error);
      }
      default:
        throw new Error(`unknown message ${JSON.stringify(message satisfies never)}`);
    }
  }

  #binary(bytes: Uint8Array): void {
    const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
    // A channel that was closed here may still have bytes on the way.
    const channel = this.#channels.get(number);
    channel?.receive(bytes.subarray(4));
    if (channel?.ended) this.#channels.delete(number);
  }
}
