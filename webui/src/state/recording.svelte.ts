// A console's recording on its way from the agent, and the clock of who plays it.
//
// Made by `Replay.svelte`. Invariant: no more is fetched than is kept (`lib/cast.ts`).
import { asError, Failure, type Api } from '../lib/api';
import { exported } from '../lib/calls';
import { Cast, PlayClock } from '../lib/cast';
import type { ApiError } from '../lib/wire';

export const SPEEDS = [1, 2, 4, 8, 16];

export class Recording {
  readonly cast = new Cast();
  /** Its length in seconds as far as it is known. */
  duration = $state(0);
  loading = $state(true);
  cut = $state(false);
  error = $state.raw<ApiError>();
  at = $state(0);
  playing = $state(false);
  speed = $state(1);
  skipPauses = $state(true);
  readonly #clock = new PlayClock();
  readonly #abort = new AbortController();

  constructor(
    readonly api: Api,
    readonly id: string,
  ) {
    void this.#load();
  }

  close(): void {
    this.#abort.abort();
  }

  toggle(): void {
    const now = performance.now();
    if (this.playing) this.#clock.pause(now, this.duration);
    else {
      if (this.at >= this.duration) this.#clock.seek(0, now);
      this.#clock.play(now);
    }
    this.playing = this.#clock.playing;
    this.tick();
  }

  seek(seconds: number): void {
    this.#clock.seek(Math.min(this.duration, Math.max(0, seconds)), performance.now());
    this.tick();
  }

  setSpeed(speed: number): void {
    this.speed = speed;
    this.#clock.setSpeed(speed, performance.now(), this.duration);
  }

  /** Looks at the clock; called for each frame while it plays. */
  tick(): void {
    const now = performance.now();
    const next = this.cast.events[this.cast.after(this.at)]?.at;
    if (this.playing && this.skipPauses && next !== undefined)
      this.#clock.skipPause(next, now, this.duration);
    this.at = this.#clock.at(now, this.duration);
    if (!this.playing || this.loading || this.at < this.duration) return;
    this.#clock.pause(now, this.duration);
    this.playing = false;
  }

  async #load(): Promise<void> {
    try {
      const response = await exported(this.api, this.id, 'cast', undefined, this.#abort.signal);
      const reader = response.body?.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true };
        this.cast.push(value ? decoder.decode(value, { stream: true }) : '\n');
        this.duration = this.cast.duration;
        if (done || this.cast.cut) break;
      }
      this.cut = this.cast.cut;
      if (this.cut) await reader?.cancel();
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const unknown = error instanceof Failure && error.status === 404;
      this.error = unknown
        ? { code: 'notFound', message: 'the agent on the node has no recording of this console' }
        : asError(error);
    }
    this.loading = false;
  }
}
