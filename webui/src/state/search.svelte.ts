// A search in a run's stored output, done by the agent.
//
// Made by `OutputSearch.svelte`. Invariant: only the newest question's answer is shown.
import { asError, Failure, type Api } from '../lib/api';
import { search } from '../lib/calls';
import type { ApiError, SearchHit } from '../lib/wire';

const LIMIT = 500;
const PAUSE_MS = 250;

export class OutputSearch {
  text = $state('');
  regex = $state(false);
  matchCase = $state(false);
  hits = $state.raw<SearchHit[]>();
  cut = $state<string>();
  busy = $state(false);
  error = $state.raw<ApiError>();
  #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly api: Api,
    readonly id: string,
  ) {}

  close(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  /** Searches once the user has paused. */
  soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.now(), PAUSE_MS);
  }

  async now(): Promise<void> {
    this.close();
    const { signal } = (this.#abort = new AbortController());
    this.error = undefined;
    if (!this.text) {
      this.hits = undefined;
      return;
    }
    this.busy = true;
    const wanted = { pattern: this.text, fixed: !this.regex, ignoreCase: !this.matchCase };
    try {
      const found = await search(this.api, this.id, wanted, LIMIT, signal);
      if (signal.aborted) return;
      this.hits = found.hits ?? [];
      this.cut = found.cut;
    } catch (error) {
      if (signal.aborted) return;
      this.hits = undefined;
      const unknown = error instanceof Failure && error.status === 404;
      this.error = unknown
        ? { code: 'notFound', message: 'the agent on the node is too old to search in outputs' }
        : asError(error);
    }
    this.busy = false;
  }
}
