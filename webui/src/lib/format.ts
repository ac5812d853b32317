// Numbers and times for people. Pure; all text that users read about quantities comes from here.
import { visible } from './visible';
import type { Run } from './wire';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `532 B`, `62 KiB`, `1.4 GiB`. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit > 0 && value < 10 ? value.toFixed(1) : String(Math.round(value));
  return `${digits} ${UNITS[unit]}`;
}

/** `0.4 s`, `12 s`, `3m 05s`, `2h 16m`, `3d 04h`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m ${two(whole % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** How long something still holds, to the minute: `25 m`, `3 h 10 m`, `2 d 4 h`. */
export function validFor(ms: number): string {
  const minutes = Math.max(0, Math.floor(ms / 60_000));
  const hours = Math.floor(minutes / 60);
  if (hours === 0) return `${minutes} m`;
  if (hours < 24) return `${hours} h ${minutes % 60} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long a run has lived by the node's clock, or nothing when it never started. */
export function runTime(run: Run, nodeNowMs: number): string {
  if (run.startedMs === undefined) return '';
  return duration((run.endedMs ?? nodeNowMs) - run.startedMs);
}

const sameYear = new Intl.DateTimeFormat(undefined, {
  month: 'short',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
});
const otherYear = new Intl.DateTimeFormat(undefined, {
  year: 'numeric',
  month: 'short',
  day: '2-digit',
});

/** A moment, short: with the time of day this year, else with the year. */
export function when(ms: number, now = Date.now()): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return '';
  const near = date.getFullYear() === new Date(now).getFullYear();
  return (near ? sameYear : otherYear).format(date);
}

/** `14,000`, by the reader's language. */
export const count = (n: number): string => n.toLocaleString();

/** The words for a run's state, and the colour token that goes with them. */
export function outcome(run: Run): { word: string; tone: 'run' | 'wait' | 'ok' | 'bad' } {
  switch (run.state) {
    case 'queued':
      return { word: run.position ? `queued (${run.position})` : 'queued', tone: 'wait' };
    case 'running':
      // Of a run on another node this is what was stored last.
      return {
        word: run.live === false ? `running on ${visible(run.host)}` : 'running',
        tone: 'run',
      };
    case 'stalled':
      return { word: 'stalled', tone: 'wait' };
    case 'orphaned':
      return { word: 'orphaned', tone: 'bad' };
    case 'lost':
      return { word: 'lost', tone: 'bad' };
    case 'exited':
      if (run.signal) return { word: run.signal, tone: 'bad' };
      if (run.exitCode === 0) return { word: 'done', tone: 'ok' };
      return { word: `exit ${run.exitCode ?? '?'}`, tone: 'bad' };
    default:
      return run.state satisfies never;
  }
}

/** What a state means for the user, where a word is not enough. */
export function meaning(run: Run): string {
  const why = run.reason ? visible(run.reason) : '';
  switch (run.state) {
    case 'queued': {
      const before = (run.position ?? 0) - 1;
      if (before > 0)
        return `Waits for its turn: ${before === 1 ? 'one is' : `${before} are`} before it.`;
      return before === 0 ? 'Waits for its turn: it is the next.' : why;
    }
    case 'stalled':
      return `It waits, because its output cannot be stored${why ? `: ${why}` : '.'}`;
    case 'orphaned':
      return `Its supervisor is gone and it goes on: its output is stored no more and its end will not be seen. It can be killed.${why && ` ${why}`}`;
    case 'lost':
      return `It is gone and nobody saw how${why ? `: ${why}` : '.'}`;
    case 'running':
    case 'exited':
      return why;
    default:
      return run.state satisfies never;
  }
}
