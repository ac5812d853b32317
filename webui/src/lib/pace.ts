// How many bytes may be on their way to one viewer: about what it shows in AHEAD_MS.
//
// Called by `channel.ts`, which sends credit by it. A page that shows slowly has little waiting in it, so what
// comes next, such as the echo of a key, is soon seen; one that shows fast is never starved.
// Invariant: LEAST <= window <= MOST.
export const LEAST = 8 * 1024;
export const MOST = 128 * 1024;
const AHEAD_MS = 33;
/** A rate is of so many bytes or more; fewer tell of the clock and not of the page. */
const SAMPLE = 8 * 1024;

export class Pace {
  window = MOST / 2;
  #since = 0;
  #shown = 0;

  /** Something to show came to a viewer that had nothing. */
  begin(now: number): void {
    this.#since = now;
    this.#shown = 0;
  }

  /** So many bytes more are shown; since `begin` there was always something to show. */
  shown(bytes: number, now: number): void {
    this.#shown += bytes;
    const ms = now - this.#since;
    if (this.#shown < SAMPLE || ms <= 0) return;
    const wanted = (this.#shown / ms) * AHEAD_MS;
    // Half the way: one slow frame is no slow page.
    this.window = Math.round(Math.min(MOST, Math.max(LEAST, (this.window + wanted) / 2)));
    this.begin(now);
  }
}
