// One run followed over the live socket: offsets, credit and stdin, without the socket itself.
//
// Made by `live.ts`; tiles see it as `Following`. Invariants: a byte is handed on once, at its own
// offset; at most the window of `pace.ts` is between the agent's store and `done`, so a flood never queues
// up in the page; a key stroke that was sent and not acknowledged is sent again after a reconnect, under the
// same number, so it is never typed twice.
import { FrameDecoder, type Frame } from './frames';
import { Pace } from './pace';
import type {
  Access,
  ApiError,
  Run,
  StreamName,
  StreamSizes,
  TerminalSize,
  ViewerMessage,
} from './wire';

/** What may be typed ahead of a program that does not read. */
const MAX_TYPED = 1 << 20;
/** Pieces of stdin on their way; the agent refuses more than 64. */
const MAX_PIECES = 32;
const PIECE = 32 * 1024;

/** What follows a run. */
export interface Follower {
  /** New bytes; `done` says that they are shown, and lets as many more come. */
  data(stream: StreamName, bytes: Uint8Array, done: () => void): void;
  /** Bytes that are not kept any more. */
  gap?(stream: StreamName, missing: number): void;
  /** Bytes that the agent passed over, because the page was too far behind. */
  skipped?(stream: StreamName, missing: number): void;
  /** A console's size changed before the next bytes. */
  resize?(size: TerminalSize): void;
  /** The run, at first and whenever its state changes; `ended` when nothing follows. */
  run?(run: Run, ended: boolean): void;
  /** The agent refused; the channel is closed. */
  failed?(error: ApiError): void;
}

/** As who a run is followed, and how. */
export interface Standing {
  /** Whose run it is, when another user shares it. */
  owner?: string;
  /** `view` types nothing and sets no size. */
  access?: Access;
  /** How many bytes one may be behind; further behind, the agent goes on near the end. */
  behind?: number;
}

/** What a channel sends through; `live.ts` is the real one. */
export interface Sender {
  message(message: ViewerMessage): void;
  stdin(channel: number, seq: number, bytes: Uint8Array): void;
}

export class Channel {
  ended = false;
  readonly #have: StreamSizes;
  #decoder = new FrameDecoder();
  #sender: Sender | undefined;
  readonly #pace = new Pace();
  /** Bytes that came and are not shown. */
  #pending = 0;
  /** Bytes that may come. */
  #granted = 0;
  /** The size that was wished for last: another number has to wish anew. */
  #size: TerminalSize | undefined;
  #seq = 0;
  #unacked: { seq: number; bytes: Uint8Array }[] = [];
  /** What was typed while enough was on its way. */
  #typed = new Uint8Array(0);

  constructor(
    public number: number,
    readonly run: string,
    from: StreamSizes,
    readonly writer: string,
    readonly follower: Follower,
    readonly standing: Standing = {},
  ) {
    this.#have = { ...from };
  }

  /** The offset of the next byte of each stream. */
  get offsets(): StreamSizes {
    return { ...this.#have };
  }

  /** Opens, or opens again where the last socket left off, and repeats what was not acknowledged. */
  attach(sender: Sender): void {
    if (this.ended) return;
    this.#sender = sender;
    this.#decoder = new FrameDecoder();
    this.#granted = Math.max(0, this.#pace.window - this.#pending);
    sender.message({
      type: 'open',
      channel: this.number,
      run: this.run,
      from: this.offsets,
      credit: this.#granted,
      writer: this.writer,
      ...this.standing,
    });
    if (this.#size) this.resize(this.#size);
    for (const { seq, bytes } of this.#unacked) sender.stdin(this.number, seq, bytes);
    this.#send();
  }

  /** Goes on at other offsets, under a new number; `attach` comes next. */
  restart(number: number, from: StreamSizes): void {
    this.number = number;
    Object.assign(this.#have, from);
  }

  /** The socket is gone; `attach` comes later. */
  detach(): void {
    this.#sender = undefined;
  }

  /** Takes the bytes of a binary message for this channel. */
  receive(bytes: Uint8Array): void {
    for (const frame of this.#decoder.push(bytes)) this.#apply(frame);
  }

  /** Types into the run. False when that is not possible now; then nothing was taken. */
  write(bytes: Uint8Array): boolean {
    if (!this.#drives || this.#typed.length + bytes.length > MAX_TYPED) return false;
    const typed = new Uint8Array(this.#typed.length + bytes.length);
    typed.set(this.#typed);
    typed.set(bytes, this.#typed.length);
    this.#typed = typed;
    this.#send();
    return true;
  }

  /** stdin up to this number was taken. */
  acknowledge(seq: number): void {
    this.#unacked = this.#unacked.filter((piece) => piece.seq > seq);
    this.#send();
  }

  get #drives(): boolean {
    return this.#sender !== undefined && !this.ended && this.standing.access !== 'view';
  }

  #send(): void {
    while (this.#sender && this.#typed.length > 0 && this.#unacked.length < MAX_PIECES) {
      const piece = { seq: ++this.#seq, bytes: this.#typed.slice(0, PIECE) };
      this.#typed = this.#typed.slice(PIECE);
      this.#unacked.push(piece);
      this.#sender.stdin(this.number, piece.seq, piece.bytes);
    }
  }

  resize(size: TerminalSize): boolean {
    if (!this.#drives) return false;
    this.#size = size;
    this.#sender?.message({ type: 'resize', channel: this.number, size });
    return true;
  }

  fail(error: ApiError): void {
    this.ended = true;
    this.follower.failed?.(error);
  }

  #apply(frame: Frame): void {
    switch (frame.kind) {
      case 'data':
        return this.#data(frame.stream, frame.offset, frame.bytes);
      case 'gap':
        return this.#pass(frame.stream, frame.to, 'gap');
      case 'resize':
        return this.follower.resize?.(frame.size);
      case 'state':
        return this.follower.run?.(frame.run, false);
      case 'end':
        this.ended = true;
        return this.follower.run?.(frame.run, true);
      case 'ping':
        return;
      default:
        return frame satisfies never;
    }
  }

  #data(stream: StreamName, offset: number, bytes: Uint8Array): void {
    if (this.#pending === 0) this.#pace.begin(performance.now());
    this.#pending += bytes.length;
    this.#granted -= bytes.length;
    // The agent announces what is not kept, and nothing else.
    this.#pass(stream, offset, 'skipped');
    const seen = Math.min(bytes.length, this.#have[stream] - offset);
    const fresh = bytes.subarray(seen);
    this.#have[stream] += fresh.length;
    if (seen > 0) this.#done(seen);
    if (fresh.length > 0)
      this.follower.data(
        stream,
        fresh,
        once(() => this.#done(fresh.length)),
      );
  }

  /** Goes on at a later offset, if it is later. */
  #pass(stream: StreamName, to: number, why: 'gap' | 'skipped'): void {
    const missing = to - this.#have[stream];
    if (missing <= 0) return;
    this.#have[stream] = to;
    this.follower[why]?.(stream, missing);
  }

  #done(length: number): void {
    this.#pending -= length;
    this.#pace.shown(length, performance.now());
    const { window } = this.#pace;
    const room = window - this.#pending - this.#granted;
    if (room < window / 2 || !this.#sender || this.ended) return;
    this.#granted += room;
    this.#sender.message({ type: 'credit', channel: this.number, bytes: room });
  }
}

function once(action: () => void): () => void {
  let left = true;
  return () => {
    if (left) action();
    left = false;
  };
}
