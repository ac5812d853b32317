import { describe, expect, it } from 'vitest';
import { FrameDecoder, HEADER_LEN, MAX_PAYLOAD, type Frame } from './frames';
import { frame, frameOf } from './frames.fixture';

const run = { id: 'r', state: 'running' };
const wire = [
  frame(4, 0, 0, new TextEncoder().encode(JSON.stringify(run))),
  frame(1, 1, 2 ** 40, Uint8Array.of(1, 2, 3)),
  frame(1, 2, 0, new Uint8Array(0)),
  frame(2, 3, 7, frameOf.u64(2 ** 33)),
  frame(3, 3, 0, Uint8Array.of(0, 80, 0, 24)),
  frame(6, 0, 0, new Uint8Array(0)),
  frame(5, 0, 0, new TextEncoder().encode(JSON.stringify(run))),
];
const frames: Frame[] = [
  { kind: 'state', run: run as never },
  { kind: 'data', stream: 'stdout', offset: 2 ** 40, bytes: Uint8Array.of(1, 2, 3) },
  { kind: 'data', stream: 'stderr', offset: 0, bytes: new Uint8Array(0) },
  { kind: 'gap', stream: 'tty', offset: 7, to: 2 ** 33 },
  { kind: 'resize', size: { cols: 80, rows: 24 } },
  { kind: 'ping' },
  { kind: 'end', run: run as never },
];
const all = Uint8Array.from(wire.flatMap((each) => [...each]));
const plain = (each: Frame) => (each.kind === 'data' ? { ...each, bytes: [...each.bytes] } : each);

describe('frames', () => {
  it('come out whole however the bytes are cut', () => {
    for (let cut = 1; cut <= all.length; cut++) {
      const decoder = new FrameDecoder();
      const seen: Frame[] = [];
      for (let at = 0; at < all.length; at += cut)
        seen.push(...decoder.push(all.slice(at, at + cut)));
      expect(seen.map(plain), `cut into ${cut}`).toEqual(frames.map(plain));
    }
  });

  it('of unknown types or streams, or of a wrong size, are an error', () => {
    const push = (bytes: Uint8Array) => () => new FrameDecoder().push(bytes);
    expect(push(frame(9, 0, 0, new Uint8Array(0)))).toThrow('unknown frame type 9');
    expect(push(frame(1, 4, 0, Uint8Array.of(1)))).toThrow('unknown stream 4');
    expect(push(frame(3, 3, 0, Uint8Array.of(1)))).toThrow('payload');
  });

  it('that claim to be huge are refused before they are buffered', () => {
    const head = frame(1, 1, 0, new Uint8Array(0)).slice(0, HEADER_LEN);
    new DataView(head.buffer).setUint32(10, MAX_PAYLOAD + 1);
    expect(() => new FrameDecoder().push(head)).toThrow('over the limit');
  });
});
