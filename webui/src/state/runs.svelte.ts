// The history of runs, newest first, kept true by the events.
//
// Owned by `House`. Invariant: it subscribes before it reads (the `ready` event starts the fetch), so a
// change between the two is not missed.
import { asError, type Api } from '../lib/api';
import {
  isConsole,
  isFinal,
  type Access,
  type ApiError,
  type Event,
  type Run,
  type Viewer,
} from '../lib/wire';

const PAGE = 200;
const GATHER_MS = 60;
/** How many are kept of a page that is open for days; who scrolls down to older ones keeps more. */
const KEEP = 2000;
/** So many living consoles are asked for, however old they are. */
const CONSOLES = 100;

export type Question = 'rename' | 'delete' | 'share' | 'kill';

/** When what an event tells of has just happened; a name or a pin of an old run tells no time. */
function newMoment(before: Run | undefined, run: Run): number | undefined {
  if (!before) return undefined;
  if (run.endedMs !== before.endedMs) return run.endedMs;
  return run.startedMs === before.startedMs ? undefined : run.startedMs;
}

export class Runs {
  list = $state.raw<Run[]>([]);
  loaded = $state(false);
  error = $state.raw<ApiError>();
  /** Where the older ones begin, if there are any. */
  older = $state<string>();
  /** What the list shows instead of all: those that match a filter, or in another order. */
  narrowed = $state.raw<Run[]>();
  /** The run that is open. */
  selected = $state<string>();
  /** A run of another user that is shared, when such a one is open. */
  guest = $state.raw<{ id: string; owner: string; access: Access }>();
  /** What the user is asked about a run. */
  asked = $state.raw<{ what: Question; run: Run }>();
  /** Whether the output that is open is searched in. */
  searching = $state(false);
  /** Whether the list is that of shares. */
  sharesListed = $state(false);
  /** Counts up when what is shared changed. */
  sharesVersion = $state(0);
  /** The node's clock against ours, learnt from the events. */
  skewMs = $state(0);
  /** Who looks at which run now, as far as anybody asked. */
  viewers = $state.raw<Record<string, Viewer[]>>({});
  /** Those that are gone while this page is open: an answer that was under way may still name them. */
  readonly deleted = new Set<string>();
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
    const isOpen = (run: Run) => run.id === this.selected;
    return this.list.find(isOpen) ?? this.narrowed?.find(isOpen);
  }

  /** What the tile lists. */
  get shown(): Run[] {
    return this.narrowed ?? this.list;
  }

  /** The consoles that live, newest first. */
  get living(): Run[] {
    return this.list.filter((run) => isConsole(run) && !isFinal(run.state));
  }

  /** Learns who looks at a run; from then on the events tell. */
  async look(id: string, api: Api = this.api): Promise<void> {
    // Who is no guest any more sees nobody.
    const viewers = await api.viewers(id).catch(() => (api.owner ? [] : undefined));
    if (viewers) this.viewers = { ...this.viewers, [id]: viewers };
  }

  event(event: Event): void {
    switch (event.type) {
      case 'ready':
        void this.refresh();
        return;
      case 'run': {
        const { run } = event;
        const moment = newMoment(this.#known.get(run.id), run);
        if (moment) this.skewMs = moment - Date.now();
        return this.put(run);
      }
      case 'gone':
        this.#known.delete(event.run);
        this.deleted.add(event.run);
        if (this.selected === event.run) this.selected = undefined;
        this.#timer ??= setTimeout(() => this.#publish(), GATHER_MS);
        return;
      case 'presence':
        this.viewers = { ...this.viewers, [event.run]: event.viewers };
        return;
      case 'shares':
        this.sharesVersion++;
        return;
      default:
        event satisfies never;
    }
  }

  /** Takes what is known of a run; many in a short time are shown together. */
  put(run: Run): void {
    if (this.deleted.has(run.id)) return;
    const before = this.#known.get(run.id);
    // An answer that was under way may be older than an event that overtook it.
    if (before && isFinal(before.state) && !isFinal(run.state)) return;
    this.#known.set(run.id, run);
    this.#timer ??= setTimeout(() => this.#publish(), GATHER_MS);
  }

  async refresh(): Promise<void> {
    try {
      const before = [...this.#known.keys()];
      const [page, living] = await Promise.all([
        this.api.runs(PAGE),
        this.api.runs(CONSOLES, undefined, '&console=true&live=true').catch(() => undefined),
      ]);
      const meets = page.runs.some((run) => before.includes(run.id));
      if (page.next && !meets) {
        // What came while nobody listened is more than a page: read on from there, without a hole.
        for (const id of before) this.#known.delete(id);
        this.older = page.next;
      }
      for (const run of [...page.runs, ...(living?.runs ?? [])]) this.put(run);
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
    if (this.loaded) this.consoles(this.living);
  }
}
