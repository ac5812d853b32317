// The history of runs, newest first, kept true by the events.
//
// Owned by `House`. Invariant: it subscribes before it reads (the `ready` event starts the fetch), so a
// change between the two is not missed.
import { asError, type Api } from '../lib/api';
import { isConsole, isFinal, type ApiError, type Event, type Run } from '../lib/wire';

const PAGE = 200;
const GATHER_MS = 60;
/** How many are kept of a page that is open for days; who scrolls down to older ones keeps more. */
const KEEP = 2000;

export class Runs {
  list = $state.raw<Run[]>([]);
  loaded = $state(false);
  error = $state.raw<ApiError>();
  /** Where the older ones begin, if there are any. */
  older = $state<string>();
  /** The run that is open. */
  selected = $state<string>();
  /** The node's clock against ours, learnt from the events. */
  skewMs = $state(0);
  readonly #known = new Map<string, Run>();
  #keep = KEEP;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly api: Api,
    /** Told about the consoles that live, each time the list is read or changes. */
    readonly consoles: (live: Run[]) => void,
  ) {}

  get active(): number {
    return this.list.filter((run) => !isFinal(run.state) && !isConsole(run)).length;
  }

  get current(): Run | undefined {
    return this.list.find((run) => run.id === this.selected);
  }

  event(event: Event): void {
    switch (event.type) {
      case 'ready':
        void this.refresh();
        return;
      case 'run': {
        const { run } = event;
        const moment = run.endedMs ?? run.startedMs ?? run.createdMs;
        this.skewMs = moment - Date.now();
        return this.put(run);
      }
      case 'gone':
        this.#known.delete(event.run);
        this.#timer ??= setTimeout(() => this.#publish(), GATHER_MS);
        return;
      case 'presence':
      case 'shares':
        return;
      default:
        event satisfies never;
    }
  }

  /** Takes what is known of a run; many in a short time are shown together. */
  put(run: Run): void {
    const before = this.#known.get(run.id);
    // An answer that was under way may be older than an event that overtook it.
    if (before && isFinal(before.state) && !isFinal(run.state)) return;
    this.#known.set(run.id, run);
    this.#timer ??= setTimeout(() => this.#publish(), GATHER_MS);
  }

  async refresh(): Promise<void> {
    try {
      const before = [...this.#known.keys()];
      const page = await this.api.runs(PAGE);
      const meets = page.runs.some((run) => before.includes(run.id));
      if (page.next && !meets) {
        // What came while nobody listened is more than a page: read on from there, without a hole.
        for (const id of before) this.#known.delete(id);
        this.older = page.next;
      }
      for (const run of page.runs) this.put(run);
      this.error = undefined;
      this.loaded = true;
      this.#publish();
    } catch (error) {
      this.error = asError(error);
    }
  }

  async loadOlder(): Promise<void> {
    if (!this.older) return;
    try {
      const page = await this.api.runs(PAGE, this.older);
      for (const run of page.runs) this.put(run);
      this.older = page.next;
      this.#keep = Math.max(KEEP, this.#known.size);
      this.#publish();
    } catch (error) {
      this.error = asError(error);
    }
  }

  #publish(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const sorted = [...this.#known.values()].sort(
      (a, b) => b.createdMs - a.createdMs || (a.id < b.id ? 1 : -1),
    );
    this.list = sorted.filter(
      (run, at) => at < this.#keep || !isFinal(run.state) || run.id === this.selected,
    );
    if (this.list.length === sorted.length) return this.#tell();
    this.#known.clear();
    for (const run of this.list) this.#known.set(run.id, run);
    this.older = sorted[this.#keep - 1]?.id;
    this.#tell();
  }

  #tell(): void {
    if (this.loaded)
      this.consoles(this.list.filter((run) => isConsole(run) && !isFinal(run.state)));
  }
}
