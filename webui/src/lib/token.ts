// The page's token: taken once for the code in the URL's fragment, kept in sessionStorage, and where
// the browser denies storage (a cross-site iframe) in the fragment of this page's own URL.
//
// Called by `state/page.svelte.ts` before anything else. Invariants: a code never stays in the URL; a
// token is never in a path or query; a fragment never leaves the browser.
import type { PageToken } from './wire';

/** What this module touches of a browser window; a test passes its own. */
export interface PageWindow {
  location: { hash: string; pathname: string; search: string };
  history: { replaceState(data: unknown, unused: string, url: string): void };
  storage(): Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
}

/** The real window. `storage()` throws where the browser denies it. */
export const browserWindow = (): PageWindow => ({
  location,
  history,
  storage: () => sessionStorage,
});

/** What the URL's fragment asks for. */
export interface Fragment {
  code?: string;
  token?: string;
  cluster?: string;
  run?: string;
}

/** Reads `#code=…&run=…`. */
export function readFragment(hash: string): Fragment {
  const params = new URLSearchParams(hash.replace(/^#/, ''));
  const fragment: Fragment = {};
  for (const key of ['code', 'token', 'cluster', 'run'] as const) {
    const value = params.get(key);
    if (value) fragment[key] = value;
  }
  return fragment;
}

function writeFragment(page: PageWindow, fragment: Fragment): void {
  const text = new URLSearchParams(Object.entries(fragment)).toString();
  const url = page.location.pathname + page.location.search + (text ? `#${text}` : '');
  page.history.replaceState(null, '', url);
}

/** Keeps and finds the token of one page. */
export class TokenStore {
  /** Storage is the origin's; behind a proxy that may be shared, so the key has the path. */
  readonly #key: string;
  readonly #page: PageWindow;

  constructor(page: PageWindow) {
    this.#page = page;
    this.#key = `hpcclient.token ${page.location.pathname}`;
  }

  /** Returns the code of the URL, if there is one, and wipes it from there. */
  takeCode(): string | undefined {
    const { code, ...rest } = readFragment(this.#page.location.hash);
    if (code) writeFragment(this.#page, rest);
    return code;
  }

  /** Returns the token of the fragment or of the storage. */
  load(): PageToken | undefined {
    const { token, cluster, ...rest } = readFragment(this.#page.location.hash);
    if (token) {
      const found = { token, cluster: cluster ?? '' };
      if (this.#store(found)) writeFragment(this.#page, rest);
      return found;
    }
    try {
      const kept = this.#page.storage().getItem(this.#key);
      return kept ? (JSON.parse(kept) as PageToken) : undefined;
    } catch {
      return undefined;
    }
  }

  /** Keeps a token, so that it survives a reload. */
  save(token: PageToken): void {
    const { token: _, cluster: __, ...rest } = readFragment(this.#page.location.hash);
    writeFragment(this.#page, this.#store(token) ? rest : { ...rest, ...token });
  }

  /** Forgets a token that is not good any more. */
  forget(): void {
    const { token: _, cluster: __, ...rest } = readFragment(this.#page.location.hash);
    writeFragment(this.#page, rest);
    try {
      this.#page.storage().removeItem(this.#key);
    } catch {
      // Denied storage holds nothing.
    }
  }

  #store(token: PageToken): boolean {
    try {
      this.#page.storage().setItem(this.#key, JSON.stringify(token));
      return true;
    } catch {
      return false;
    }
  }
}

/** Returns the fragment that hands a token, and what is shown, to another window of this page. */
export function handOver(token: PageToken, run: string | undefined): string {
  return `#${new URLSearchParams({ ...token, ...(run ? { run } : {}) }).toString()}`;
}
