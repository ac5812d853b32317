// One directory of the node: its entries, the filter and the order.
//
// Owned by `House`. The agent sorts and pages. Of a large directory the first page is shown at once, the
// next when its end is near, and all of it only for a filter: each page costs the node a reading of the
// directory. Leaving a directory cancels what is still under way for it.
import { asError, type Api } from '../lib/api';
import { join } from '../lib/paths';
import { nameOf, toBytes } from '../lib/visible';
import type { ApiError, FileEntry, SortKey } from '../lib/wire';

const FIRST_PAGE = 500;
const NEXT_PAGE = 5000;

/** A file that is looked at. */
export interface Looked {
  path: Uint8Array;
  entry: FileEntry;
}

export const isDirectory = (entry: FileEntry): boolean =>
  entry.kind === 'directory' || entry.targetKind === 'directory';

export class Files {
  /** As asked for at first, then as the agent calls it. */
  path = $state.raw<Uint8Array>(new TextEncoder().encode('~'));
  entries = $state.raw<FileEntry[]>([]);
  total = $state(0);
  loading = $state(false);
  error = $state.raw<ApiError>();
  sort = $state<SortKey>('name');
  filter = $state('');
  selected = $state(-1);
  looked = $state.raw<Looked>();
  shown = $derived(this.#filtered());
  #abort = new AbortController();

  constructor(readonly api: Api) {}

  /** Shows a directory. */
  async load(path: Uint8Array): Promise<void> {
    this.#abort.abort();
    const { signal } = (this.#abort = new AbortController());
    this.loading = true;
    this.error = undefined;
    try {
      const first = await this.api.files(path, this.sort, 0, FIRST_PAGE, signal);
      this.path = toBytes(first.path);
      this.entries = first.entries;
      this.total = first.total;
      this.selected = -1;
      this.filter = '';
    } catch (error) {
      if (signal.aborted) return;
      this.error = asError(error);
    }
    this.loading = false;
  }

  /** Reads on: the next page, or all there is. */
  async more(all = false): Promise<void> {
    const { signal } = this.#abort;
    if (this.loading || this.entries.length >= this.total) return;
    this.loading = true;
    try {
      do await this.#page(signal);
      while ((all || this.filter) && this.entries.length < this.total && !signal.aborted);
    } catch (error) {
      if (!signal.aborted) this.error = asError(error);
    }
    if (!signal.aborted) this.loading = false;
  }

  reload = () => this.load(this.path);

  setSort(sort: SortKey): void {
    this.sort = sort;
    void this.reload();
  }

  /** Goes into a directory, or previews a file. */
  open(entry: FileEntry): void {
    const path = join(this.path, toBytes(entry.name));
    if (isDirectory(entry)) void this.load(path);
    else this.looked = { path, entry };
  }

  async #page(signal: AbortSignal): Promise<void> {
    const offset = this.entries.length;
    const page = await this.api.files(this.path, this.sort, offset, NEXT_PAGE, signal);
    // The directory may have shrunk since its first page.
    this.total = page.entries.length === 0 ? offset : page.total;
    this.entries = [...this.entries, ...page.entries];
  }

  #filtered(): FileEntry[] {
    const wanted = this.filter.trim().toLowerCase();
    if (!wanted) return this.entries;
    return this.entries.filter(({ name }) =>
      (typeof name === 'string' ? name : nameOf(name)).toLowerCase().includes(wanted),
    );
  }
}
