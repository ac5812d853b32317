// When a flood is over of which a part was passed over, so that the screen can be put right.
//
// Used by `terminal.ts`. Invariants: it looks only after something was passed over, and goes on, more and more seldom,
// until the screen was put right or the terminal is gone.

const LOOK_MS = 300;
/** It is calm when fewer bytes than these came since the last look. */
const FEW_BYTES = 16 * 1024;
/** After so many looks at which nothing was passed over, what comes steadily is calm as well. */
const STEADY = 10;
/** In vain, the next look is up to so many times later. */
const SELDOM = 32;

export class Calm {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #came = 0;
  #passes = 0;
  #seen = 0;
  #quiet = 0;
  #misses = 0;
  #stopped = false;

  /** `settle` puts the screen right and says whether it did; `isStill` is false when more was passed over since. */
  constructor(private readonly settle: (isStill: () => boolean) => Promise<boolean>) {}

  /** So many bytes came. */
  came(bytes: number): void {
    this.#came += bytes;
  }

  /** Something was passed over. */
  passed(): void {
    this.#passes++;
    this.#misses = 0;
    this.#soon();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #soon(): void {
    if (this.#stopped) return;
    this.#timer ??= setTimeout(
      () => void this.#look(),
      LOOK_MS * Math.min(2 ** this.#misses, SELDOM),
    );
  }

  async #look(): Promise<void> {
    const passes = this.#passes;
    this.#quiet = passes === this.#seen ? this.#quiet + 1 : 0;
    this.#seen = passes;
    const calm = this.#came < FEW_BYTES || this.#quiet >= STEADY;
    this.#came = 0;
    const settled = calm && (await this.settle(() => passes === this.#passes));
    this.#timer = undefined;
    if (settled) {
      this.#quiet = 0;
      return;
    }
    if (calm) this.#misses++;
    this.#soon();
  }
}
