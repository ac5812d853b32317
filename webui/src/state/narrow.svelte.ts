// The runs that match a filter, found by the agent and kept true by what the page learns.
//
// Made by `RunsBar.svelte`, which lives in the later chunk. It lays its answer into `Runs.narrowed`, and takes it
// away when there is no filter. Invariant: only the newest filter's answer is shown.
import { asError } from '../lib/api';
import { isNarrow, matches, NOTHING, ordered, query, type RunFilter } from '../lib/filter';
import type { ApiError, Run } from '../lib/wire';
import type { Runs } from './runs.svelte';

const PAGE = 500;
/** So many are read for another order than the newest first, which only the whole list can tell. */
const MOST = 2000;

export class Narrow {
  filter = $state.raw<RunFilter>(NOTHING);
  busy = $state(false);
  error = $state.raw<ApiError>();
  /** Whether there are more than were read. */
  cut = $state(false);
  #found: Run[] = [];
  #turn = 0;

  constructor(readonly runs: Runs) {}

  /** Asks for the runs of a filter. */
  async set(filter: RunFilter): Promise<void> {
    this.filter = filter;
    const turn = ++this.#turn;
    this.error = undefined;
    this.cut = false;
    this.busy = isNarrow(filter);
    this.#found = [];
    this.show();
    if (!this.busy) return;
    try {
      let before: string | undefined;
      do {
        const page = await this.runs.api.runs(PAGE, before, query(filter));
        if (turn !== this.#turn) return;
        this.#found.push(...page.runs);
        before = page.next;
        this.show();
      } while (before && this.#found.length < MOST);
      this.cut = before !== undefined;
    } catch (error) {
      if (turn === this.#turn) this.error = asError(error);
    }
    if (turn === this.#turn) this.busy = false;
  }

  /** Shows what is known now: found ones, as the newest events tell of them, and new ones. */
  show(): void {
    if (!isNarrow(this.filter)) {
      this.runs.narrowed = undefined;
      return;
    }
    const known = new Map(this.#found.map((run) => [run.id, run]));
    for (const run of this.runs.list) known.set(run.id, run);
    for (const id of this.runs.deleted) known.delete(id);
    const found = [...known.values()].filter((run) => matches(run, this.filter));
    this.runs.narrowed = ordered(found, this.filter.order, Date.now() + this.runs.skewMs);
  }

  close(): void {
    this.#turn++;
    this.runs.narrowed = undefined;
  }
}
