// Builds frames for tests, as the agent would.
import type { Run } from './wire';

export const frameOf = {
  u64(value: number): Uint8Array {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
    return bytes;
  },
  stdout: (offset: number, text: string) => frame(1, 1, offset, new TextEncoder().encode(text)),
  tty: (offset: number, bytes: Uint8Array) => frame(1, 3, offset, bytes),
  gap: (offset: number, to: number) => frame(2, 1, offset, frameOf.u64(to)),
  end: (run: Partial<Run>) => frame(5, 0, 0, new TextEncoder().encode(JSON.stringify(run))),
};

export function frame(
  type: number,
  stream: number,
  offset: number,
  payload: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(14 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, type);
  view.setUint8(1, stream);
  view.setBigUint64(2, BigInt(offset));
  view.setUint32(10, payload.length);
  bytes.set(payload, 14);
  return bytes;
}
