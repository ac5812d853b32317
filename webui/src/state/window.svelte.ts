// A part of one stream of a run: from a hit of a search, or from the beginning. Not its end, which `output.svelte.ts` follows.
//
// Made by `RunDetail.svelte`. Invariants: it holds at most what `Output` keeps; a part begins at a line's start
// where its offset came from one.
import { asError, type Api } from '../lib/api';
import { Output } from '../lib/output';
import type { ApiError, StreamName } from '../lib/wire';

const PIECE = 512 * 1024;
/** So much of what stands before a hit is shown with it. */
const BEFORE = 32 * 1024;

export class OutputWindow {
  output = new Output();
  version = $state(0);
  ready = $state(false);
  busy = $state(false);
  error = $state.raw<ApiError>();
  /** The bytes of the stream that are shown. */
  from = $state(0);
  to = $state(0);
  /** The row that was looked for. */
  row = $state<number>();
  readonly #abort = new AbortController();

  /** @param goal the offset of the line that is looked for */
  constructor(
    readonly api: Api,
    readonly id: string,
    readonly stream: StreamName,
    readonly goal: number,
  ) {
    void this.#begin(Math.max(0, goal - BEFORE));
  }

  close(): void {
    this.#abort.abort();
  }

  /** Reads on. */
  later = () => this.#guarded(() => this.#read(this.to, PIECE));

  /** Begins earlier; what is shown comes again after it. */
  earlier = () =>
    this.#guarded(async () => {
      const to = this.to;
      const from = Math.max(0, this.from - PIECE);
      this.#clear(from);
      await this.#read(from, to - from);
    });

  #begin(from: number): Promise<void> {
    return this.#guarded(async () => {
      this.#clear(from);
      if (this.goal > from) await this.#read(from, this.goal - from, true);
      this.row = this.output.length + this.output.dropped;
      await this.#read(this.goal, PIECE);
    });
  }

  #clear(from: number): void {
    this.output = new Output();
    this.from = this.to = from;
    this.row = undefined;
  }

  async #guarded(action: () => Promise<void>): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      await action();
      this.error = undefined;
    } catch (error) {
      if (!this.#abort.signal.aborted) this.error = asError(error);
    }
    this.busy = false;
    this.ready = true;
    this.version++;
  }

  /** Reads so many bytes, and leaves the rest of the answer. A first part may begin inside of a line. */
  async #read(from: number, length: number, cut = false): Promise<void> {
    const response = await this.api.stream(this.id, this.stream, from, this.#abort.signal);
    const reader = response.body?.getReader();
    let left = length;
    let inside = cut && from > 0;
    while (reader && left > 0) {
      const { done, value } = await reader.read();
      if (done) break;
      let bytes = value.subarray(0, left);
      left -= bytes.length;
      this.to += bytes.length;
      if (inside) {
        const end = bytes.indexOf(0x0a);
        bytes = end < 0 ? new Uint8Array(0) : bytes.subarray(end + 1);
        inside = end < 0;
      }
      this.output.push(this.stream, bytes);
    }
    await reader?.cancel();
  }
}
