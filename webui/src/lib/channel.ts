// One run followed over the live socket: offsets, credit and stdin, without the socket itself.
//
// Made by `live.ts`; tiles see it as `Following`. Invariants: a byte is handed on once, at its own
// offset; at most CREDIT bytes are between the agent's store and `done`, so a flood never queues up in
// the page; a key stroke that was sent and not acknowledged is sent again after a reconnect, under the
// same number, so it is never typed twice.
import { FrameDecoder, type Frame } from './frames';
import type {
  Access,
  ApiError,
  Run,
  StreamName,
  StreamSizes,
  TerminalSize,
  ViewerMessage,
} from './wire';

export const CREDIT = 128 * 1024;
const GRANT = CREDIT / 4;
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
  /** Bytes that were passed over, because the page was too far behind. */
  skipped?(stream: StreamName, missing: number): void;
  /** A console's size changed before the next bytes. */
  resize?(size: TerminalSize): void;
  /** The run, at first and whenever its state changes; `ended` when nothing follows. */
  run?(run: Run, ended: boolean): void;
  /** The agent refused; the channel is closed. */
  failed?(error: ApiError): void;
}

/** As who a run is followed. */
export interface Standing {
  /** Whose run it is, when another user shares it. */
  owner?: string;
  /** `view` types nothing and sets no size. */
  access?: Access;
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
  #pending = 0;
  #consumed = 0;
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
    this.#consumed = 0;
    sender.message({
      type: 'open',
      channel: this.number,
      run: this.run,
      from: this.offsets,
      credit: CREDIT - this.#pending,
      writer: this.writer,
      ...this.standing,
    });
    for (const { seq, bytes } of this.#unacked) sender.stdin(this.number, seq, bytes);
    this.#send();
  }

  /** Goes on at later offsets, under a new number; `attach` comes next. */
  skip(number: number, to: StreamSizes): void {
    this.number = number;
    for (const stream of ['stdout', 'stderr', 'tty'] as const) {
      const missing = to[stream] - this.#have[stream];
      if (missing <= 0) continue;
      this.#have[stream] = to[stream];
      this.follower.skipped?.(stream, missing);
    }
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
        return this.#skip(frame.stream, frame.to);
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
    this.#pending += bytes.length;
    this.#skip(stream, offset);
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
  #skip(stream: StreamName, to: number): void {
    const missing = to - this.#have[stream];
    if (missing <= 0) return;
    this.#have[stream] = to;
    this.follower.gap?.(stream, missing);
  }

  #done(length: number): void {
    this.#pending -= length;
    this.#consumed += length;
    if (this.#consumed < GRANT || !this.#sender || this.ended) return;
    this.#sender.message({ type: 'credit', channel: this.number, bytes: this.#consumed });
    this.#consumed = 0;
  }
}

function once(action: () => void): () => void {
  let left = true;
  return () => {
    if (left) action();
    left = false;
  };
}
