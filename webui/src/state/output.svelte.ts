// The output of one run while it is looked at: its last bytes, then what comes.
//
// Made by the Runs tile for a selected run, closed when it is left. The rows are outside of the
// reactive state; `version` counts up when there are new ones.
import { asError, type Api } from '../lib/api';
import type { Follower, Standing } from '../lib/channel';
import type { Following, Live } from '../lib/live';
import { size } from '../lib/format';
import { Output } from '../lib/output';
import { isConsole, type ApiError, type Run } from '../lib/wire';

/** How much of the past of each stream is fetched; more of it when the user asks. */
const TAIL_BYTES = 2 * 1024 * 1024;
const MORE_BYTES = 5 * 1024 * 1024;
/** Further behind than this, a live view goes on near its end. */
const BEHIND_BYTES = 8 * 1024 * 1024;
const SHOW_MS = 16;

export class RunOutput {
  output = new Output();
  version = $state(0);
  error = $state.raw<ApiError>();
  ready = $state(false);
  /** Bytes before the first that was fetched. */
  earlier = $state(0);
  /** Whether more of the past can be fetched here. */
  more = $state(true);
  #tail = TAIL_BYTES;
  #following: Following | undefined;
  #closed = false;
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    readonly api: Api,
    readonly live: Live,
    readonly changed: (run: Run) => void,
    readonly standing: Standing = {},
  ) {
    void this.start();
  }

  async start(): Promise<void> {
    this.error = undefined;
    try {
      const run = await this.api.run(this.id);
      this.changed(run);
      // A console is shown by a terminal, which follows it by itself.
      if (!this.#closed && !isConsole(run)) this.#follow(run);
    } catch (error) {
      this.error = asError(error);
    }
  }

  /** Shows more of the past, as much as a page can hold. */
  loadMore(): void {
    this.more = false;
    this.#tail = MORE_BYTES;
    this.#following?.close();
    this.#waiting = [];
    this.output = new Output();
    void this.start();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#following?.close();
  }

  #follow({ sizes }: Run): void {
    const from = {
      stdout: Math.max(0, sizes.stdout - this.#tail),
      stderr: Math.max(0, sizes.stderr - this.#tail),
      tty: 0,
    };
    this.earlier = from.stdout + from.stderr;
    const follower: Follower = {
      data: (stream, bytes, done) => {
        this.output.push(stream, bytes);
        this.#soon(done);
      },
      gap: (stream, missing) => {
        this.output.note(`${size(missing)} of ${stream} are not kept any more`);
        this.#soon();
      },
      run: (run) => {
        this.changed(run);
        this.#soon();
      },
      skipped: (stream, missing) => {
        this.output.note(`${size(missing)} of ${stream} passed over: download it to see them`);
        this.#soon();
      },
      failed: (error) => (this.error = error),
    };
    const standing = { ...this.standing, behind: BEHIND_BYTES };
    this.#following = this.live.follow(this.id, from, follower, standing);
  }

  /** Shows many small pieces at once; only then may more come. */
  #soon(done?: () => void): void {
    if (done) this.#waiting.push(done);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.ready = true;
      this.version++;
      for (const each of this.#waiting.splice(0)) each();
    }, SHOW_MS);
  }
}
