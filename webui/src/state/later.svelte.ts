// The chunk of `later.ts`, fetched once. Shown through `ui/Later.svelte`.
export type Views = typeof import('../later');

class Later {
  views = $state.raw<Views>();
  failed = $state(false);
  #loading = false;

  /** Fetches the chunk, if it is neither there nor on its way. */
  async load(): Promise<void> {
    if (this.views || this.#loading) return;
    this.#loading = true;
    this.failed = false;
    try {
      this.views = await import('../later');
    } catch {
      this.failed = true;
    }
    this.#loading = false;
  }
}

export const later = new Later();
