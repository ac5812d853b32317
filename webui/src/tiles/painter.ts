// When what was drawn is on the screen, and when the next may come: with the page's frames, and in a flood, of which
// nobody reads more, a few times a second until a key is pressed.
//
// Used by `terminal.ts`. A browser that draws a flood at every frame has no time left to hear keys. Invariant: what is to
// happen after a frame happens, on a page that nobody sees, too.

const NO_FRAME_MS = 100;
const REST_MS = 80;
/** A flood is when so many times more is passed over than shown. */
const MANY_TIMES = 4;
/** So long after the last of it a flood is over. */
const FLOOD_MS = 1000;
/** So long after a key its effect is waited for. */
const KEY_MS = 250;

export class Painter {
  #came = 0;
  #flood = 0;
  #key = 0;
  readonly #resting = new Set<() => void>();

  /** So many bytes came. */
  came(bytes: number): void {
    this.#came += bytes;
  }

  /** So many were passed over. */
  passed(missing: number): void {
    if (missing > this.#came * MANY_TIMES) this.#flood = performance.now() + FLOOD_MS;
    this.#came = 0;
  }

  /** A key was pressed: its effect is to be seen soon. */
  pressed(): void {
    this.#key = performance.now() + KEY_MS;
    for (const go of this.#resting) go();
  }

  /** Does it when what was just drawn is on the screen. */
  painted(then: () => void): void {
    const frame = requestAnimationFrame(() => over());
    const timer = setTimeout(() => over(), NO_FRAME_MS);
    const over = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      const now = performance.now();
      if (now >= this.#flood || now < this.#key) then();
      else this.#rest(then);
    };
  }

  #rest(then: () => void): void {
    const timer = setTimeout(() => go(), REST_MS);
    const go = () => {
      clearTimeout(timer);
      this.#resting.delete(go);
      then();
    };
    this.#resting.add(go);
  }
}
