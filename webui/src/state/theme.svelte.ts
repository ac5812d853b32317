// Light or dark. The inline script of index.html chose before the first paint; this follows later wishes.
const KEY = 'hpcclient.theme';

export type Shade = 'dark' | 'light';

class Theme {
  shade = $state<Shade>(document.documentElement.dataset['theme'] === 'light' ? 'light' : 'dark');

  /** The user's choice; it is kept where the browser allows it. */
  toggle(): void {
    this.#show(this.shade === 'dark' ? 'light' : 'dark');
    try {
      localStorage.setItem(KEY, this.shade);
    } catch {
      // Denied in a cross-site iframe: the choice lasts as long as the page.
    }
  }

  /** Follows the notebook around this frame. Only a colour is taken, so any parent may send it. */
  listen(): void {
    addEventListener('message', ({ source, data }: MessageEvent<unknown>) => {
      if (source !== parent || typeof data !== 'object' || data === null) return;
      const wanted = (data as { hpcTheme?: unknown }).hpcTheme;
      if (wanted === 'dark' || wanted === 'light') this.#show(wanted);
    });
  }

  #show(shade: Shade): void {
    this.shade = shade;
    document.documentElement.dataset['theme'] = shade;
  }
}

export const theme = new Theme();
