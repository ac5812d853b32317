// A recording of a console (asciicast v2), read as it arrives, and the clock that plays it.
//
// Used by the player of a console's replay. Invariants: at most MAX_CHARS characters are kept, and the end of
// a longer recording is left out and said so; a line that cannot be read is passed over; times never go
// back.
import type { TerminalSize } from './wire';

export const MAX_CHARS = 24 * 1024 * 1024;
/** A line that is longer than this is no event. */
const MAX_LINE = 4 * 1024 * 1024;

export type CastEvent =
  { at: number; kind: 'output'; text: string } | { at: number; kind: 'resize'; size: TerminalSize };

export class Cast {
  size: TerminalSize = { cols: 80, rows: 24 };
  readonly events: CastEvent[] = [];
  /** Whether its end was left out. */
  cut = false;
  #rest = '';
  #chars = 0;
  #headed = false;

  /** When its last event is, in seconds. */
  get duration(): number {
    return this.events.at(-1)?.at ?? 0;
  }

  /** Takes the next piece of the file. */
  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE) this.#rest = '';
    for (const line of lines) this.#line(line);
  }

  /** Returns the index of the first event after a time. */
  after(seconds: number): number {
    let low = 0;
    let high = this.events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.events[middle]?.at ?? 0) <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #line(line: string): void {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return;
    }
    if (!this.#headed) return this.#head(value);
    if (!Array.isArray(value) || this.cut) return;
    const [at, code, data] = value as unknown[];
    if (typeof at !== 'number' || !Number.isFinite(at) || typeof data !== 'string') return;
    this.#chars += data.length + 32;
    if (this.#chars > MAX_CHARS) {
      this.cut = true;
      return;
    }
    const time = Math.max(at, this.duration);
    if (code === 'o') this.events.push({ at: time, kind: 'output', text: data });
    const size = code === 'r' ? sizeOf(data) : undefined;
    if (size) this.events.push({ at: time, kind: 'resize', size });
  }

  #head(value: unknown): void {
    this.#headed = true;
    if (typeof value !== 'object' || value === null) return;
    const { width, height } = value as { width?: unknown; height?: unknown };
    const size = sizeOf(`${String(width)}x${String(height)}`);
    if (size) this.size = size;
  }
}

function sizeOf(text: string): TerminalSize | undefined {
  const [, cols, rows] = /^(\d{1,4})x(\d{1,4})$/.exec(text) ?? [];
  const size = { cols: Math.min(Number(cols), 1000), rows: Math.min(Number(rows), 500) };
  return size.cols > 0 && size.rows > 0 ? size : undefined;
}

/** Pauses are no longer than this when they are shortened. */
const LONGEST_PAUSE = 2;

/** Where in a recording one is, in its own seconds, while the wall's clock goes on. */
export class PlayClock {
  #at = 0;
  #since: number | undefined;
  #speed = 1;

  get playing(): boolean {
    return this.#since !== undefined;
  }

  get speed(): number {
    return this.#speed;
  }

  /** The moment, no later than the end. */
  at(nowMs: number, end: number): number {
    const passed = this.#since === undefined ? 0 : ((nowMs - this.#since) / 1000) * this.#speed;
    return Math.min(end, this.#at + Math.max(0, passed));
  }

  play(nowMs: number): void {
    this.#since ??= nowMs;
  }

  pause(nowMs: number, end: number): void {
    this.#at = this.at(nowMs, end);
    this.#since = undefined;
  }

  seek(seconds: number, nowMs: number): void {
    this.#at = Math.max(0, seconds);
    if (this.#since !== undefined) this.#since = nowMs;
  }

  setSpeed(speed: number, nowMs: number, end: number): void {
    this.seek(this.at(nowMs, end), nowMs);
    this.#speed = speed;
  }

  /** Jumps over a long pause before the next event, if there is one. */
  skipPause(next: number, nowMs: number, end: number): void {
    if (next - this.at(nowMs, end) > LONGEST_PAUSE) this.seek(next - LONGEST_PAUSE, nowMs);
  }
}

/** `1:05`, `2:03:09`: a moment of a recording. */
export function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}
