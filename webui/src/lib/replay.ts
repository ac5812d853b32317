// Where the replay of a console begins. Part of the terminal's own chunk.

/** How much of a console's past is shown to a viewer that comes anew. */
export const REPLAY_BYTES = 256 * 1024;

/** Returns where a replay that was cut in the middle should begin: after the first line's end. */
export function afterFirstLine(bytes: Uint8Array): number {
  const end = bytes.subarray(0, 4096).indexOf(0x0a);
  return end < 0 ? 0 : end + 1;
}
