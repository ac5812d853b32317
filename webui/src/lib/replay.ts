// Where the replay of a console begins, and what is said at its end. Part of the terminal's own chunk.
import type { Run } from './wire';

/** How much of a console's past is shown to a viewer that comes anew. */
export const REPLAY_BYTES = 256 * 1024;

/** Returns where a replay that was cut in the middle should begin: after the first line's end. */
export function afterFirstLine(bytes: Uint8Array): number {
  const end = bytes.subarray(0, 4096).indexOf(0x0a);
  return end < 0 ? 0 : end + 1;
}

/** The last line of a terminal. */
export function howItEnded(run: Run): string {
  if (run.state === 'lost') return `lost: ${run.reason ?? 'nobody saw it end'}`;
  if (run.signal) return `ended by ${run.signal}`;
  return `ended, exit code ${run.exitCode ?? 'unknown'}`;
}
