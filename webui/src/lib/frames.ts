// Binary frames of a run's streams, put together from bytes that arrive in any pieces.
//
//   type u8 | stream u8 | offset u64 | length u32 | payload      (big endian)
//
// Called by `channel.ts`. Mirrors `crates/protocol/src/frame.rs`.
import type { Run, StreamName, TerminalSize } from './wire';

export const HEADER_LEN = 14;
export const MAX_PAYLOAD = 1 << 20;

export type Frame =
  | { kind: 'data'; stream: StreamName; offset: number; bytes: Uint8Array }
  | { kind: 'gap'; stream: StreamName; offset: number; to: number }
  | { kind: 'resize'; size: TerminalSize }
  | { kind: 'state' | 'end'; run: Run }
  | { kind: 'ping' };

const STREAMS: (StreamName | undefined)[] = [undefined, 'stdout', 'stderr', 'tty'];

function streamOf(number: number): StreamName {
  const name = STREAMS[number];
  if (!name) throw new Error(`unknown stream ${number}`);
  return name;
}

function sized(view: DataView, wanted: number): DataView {
  if (view.byteLength !== wanted) throw new Error(`a payload of ${view.byteLength} bytes`);
  return view;
}

function parse(type: number, stream: number, offset: number, payload: Uint8Array): Frame {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const run = (): Run => JSON.parse(new TextDecoder().decode(payload)) as Run;
  switch (type) {
    case 1:
      return { kind: 'data', stream: streamOf(stream), offset, bytes: payload };
    case 2: {
      const to = Number(sized(view, 8).getBigUint64(0));
      return { kind: 'gap', stream: streamOf(stream), offset, to };
    }
    case 3: {
      sized(view, 4);
      return { kind: 'resize', size: { cols: view.getUint16(0), rows: view.getUint16(2) } };
    }
    case 4:
      return { kind: 'state', run: run() };
    case 5:
      return { kind: 'end', run: run() };
    case 6:
      sized(view, 0);
      return { kind: 'ping' };
    default:
      throw new Error(`unknown frame type ${type}`);
  }
}

/** Puts frames together. An exception means that the peer does not speak our frames: hang up. */
export class FrameDecoder {
  #buffer = new Uint8Array(0);

  /** Takes bytes from the wire and returns the frames that are whole now. */
  push(bytes: Uint8Array): Frame[] {
    let buffer = bytes;
    if (this.#buffer.length > 0) {
      buffer = new Uint8Array(this.#buffer.length + bytes.length);
      buffer.set(this.#buffer);
      buffer.set(bytes, this.#buffer.length);
    }
    const frames: Frame[] = [];
    let at = 0;
    while (buffer.length - at >= HEADER_LEN) {
      const head = new DataView(buffer.buffer, buffer.byteOffset + at, HEADER_LEN);
      const type = head.getUint8(0);
      const length = head.getUint32(10);
      if (type < 1 || type > 6) throw new Error(`unknown frame type ${type}`);
      if (length > MAX_PAYLOAD) throw new Error(`a frame of ${length} bytes is over the limit`);
      const end = at + HEADER_LEN + length;
      if (end > buffer.length) break;
      const payload = buffer.subarray(at + HEADER_LEN, end);
      frames.push(parse(type, head.getUint8(1), Number(head.getBigUint64(2)), payload));
      at = end;
    }
    this.#buffer = buffer.slice(at);
    return frames;
  }
}
