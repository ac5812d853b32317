// The chunk of `later.ts`, fetched once. Shown through `ui/Later.svelte`.
import type { Api } from '../lib/api';
import type { Snapshot } from '../tiles/terminal';

export type Views = typeof import('../later');

class Later {
  views = $state.raw<Views>();
  failed = $state(false);
  #loading: Promise<void> | undefined;

  /** The screen of a console, where the agent can tell it. */
  async screen(api: Api, id: string): Promise<Snapshot | undefined> {
    await this.load();
    return this.views?.snapshot(api, id);
  }

  /** Fetches the chunk, if it is neither there nor on its way. */
  load(): Promise<void> {
    if (this.views) return Promise.resolve();
    return (this.#loading ??= this.#import());
  }

  async #import(): Promise<void> {
    this.failed = false;
    try {
      this.views = await import('../later');
    } catch {
      this.failed = true;
    }
    this.#loading = undefined;
  }
}

export const later = new Later();
