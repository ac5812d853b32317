// The page from its first moment: the token, the connection, and the house that is built on them.
//
// Made once by `main.ts`. Invariants: nothing is asked of the agent before there is a token; a refused
// token ends in one calm screen, and no request is repeated with it.
import { Api, asError, Failure, pageToken } from '../lib/api';
import { pageUrl, type ClusterStatus } from '../lib/bridge';
import { Live } from '../lib/live';
import { browserWindow, handOver, readFragment, TokenStore } from '../lib/token';
import type { AgentStatus, ApiError, PageToken } from '../lib/wire';
import { Consoles } from './consoles.svelte';
import { Files } from './files.svelte';
import { later } from './later.svelte';
import { Runs } from './runs.svelte';
import { theme } from './theme.svelte';
import { toasts } from './toasts.svelte';
import { View } from './view.svelte';

export type Phase = 'starting' | 'ready' | 'expired' | 'failed';
export type Link = 'connecting' | 'up' | 'reconnecting' | 'disconnected';

/** What the tiles work with, once there is a token. */
export interface House {
  api: Api;
  live: Live;
  runs: Runs;
  consoles: Consoles;
  files: Files;
  view: View;
}

/** Errors that go away by themselves; with any other the user has to do something. */
const PASSING: ApiError['code'][] = ['unavailable', 'connectFailed', 'internal'];
/** How often the bridge is asked while there is no connection. */
const LOOK_MS = 2000;

export class Page {
  phase = $state<Phase>('starting');
  house = $state.raw<House>();
  cluster = $state('');
  status = $state.raw<AgentStatus>();
  link = $state<Link>('connecting');
  rttMs = $state<number>();
  /** The connection as the bridge sees it: the node, the certificate, what is waited for. */
  bridge = $state.raw<ClusterStatus>();
  /** Why it is not connected. */
  reason = $state.raw<ApiError>();
  readonly view = new View();
  readonly #base = new URL('.', document.baseURI).href;
  readonly #tokens = new TokenStore(browserWindow());
  /** The code until it is exchanged: it is taken out of the URL, and a bridge that was busy is asked again. */
  #code: string | undefined;
  #token: PageToken | undefined;
  #home = false;
  #looks: ReturnType<typeof setInterval> | undefined;

  /** Whether the connection needs the user. */
  get needsLogin(): boolean {
    const { state } = this.bridge ?? {};
    return this.link !== 'up' && (state === 'failed' || state === 'disconnected');
  }

  async start(): Promise<void> {
    this.phase = 'starting';
    try {
      const code = (this.#code ??= this.#tokens.takeCode());
      if (code) {
        this.#token = await pageToken(this.#base, code);
        this.#code = undefined;
        this.#tokens.save(this.#token);
      } else {
        this.#token = this.#tokens.load();
      }
    } catch (error) {
      this.reason = asError(error);
      const refused = error instanceof Failure && error.status >= 400 && error.status < 500;
      // A code that was taken is worth nothing, but the token it was changed for may be kept.
      if (refused) this.#code = undefined;
      this.#token = refused ? this.#tokens.load() : undefined;
      if (!this.#token) {
        this.phase = refused ? 'expired' : 'failed';
        return;
      }
    }
    if (this.#token) this.#build(this.#token);
    else this.phase = 'expired';
  }

  /** The same page in a window of its own. */
  popup(): void {
    if (!this.#token) return;
    const fragment = handOver(this.#token, this.house?.runs.selected);
    const url = this.#base + location.search + fragment;
    window.open(url, '_blank', 'popup,width=1200,height=820');
  }

  /** Goes to the bridge's own page for the login; from there it comes back here. */
  async logIn(): Promise<void> {
    try {
      const { url } = (await this.house?.api.login()) ?? {};
      if (url) location.assign(pageUrl(url, location.hostname, theme.shade));
    } catch (error) {
      toasts.error(asError(error));
    }
  }

  #build(token: PageToken): void {
    const api = new Api(this.#base, token.token, () => this.#expire());
    const live = new Live({
      url: api.live,
      token: () => token.token,
      up: () => void this.#up(api),
      down: () => void this.#down(api),
      rtt: (ms) => (this.rttMs = ms),
      event: (event) => runs.event(event),
      problem: (error) => toasts.error(error),
      visible: () => document.visibilityState === 'visible',
    });
    const consoles = new Consoles(api, live);
    const runs = new Runs(api, (found) => consoles.found(found));
    const files = new Files(api);
    this.cluster = token.cluster;
    this.house = { api, live, runs, consoles, files, view: this.view };
    this.phase = 'ready';
    this.#wake(live);
    this.#openFromFragment();
    addEventListener('hashchange', () => this.#openFromFragment());
  }

  #openFromFragment(): void {
    const { run } = readFragment(location.hash);
    if (!run || !this.house) return;
    this.house.runs.selected = run;
    this.view.full = 'runs';
  }

  /** A page that was away finds the connection again at once. */
  #wake(live: Live): void {
    addEventListener('online', () => live.retry());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') live.retry();
    });
  }

  async #up(api: Api): Promise<void> {
    this.link = 'up';
    this.reason = undefined;
    clearInterval(this.#looks);
    this.#looks = undefined;
    void this.#look(api);
    try {
      this.status = await api.status();
      if (!this.#home) void this.house?.files.load(new TextEncoder().encode('~'));
      this.#home = true;
      void later.load();
    } catch (error) {
      toasts.error(asError(error));
    }
  }

  /** A socket does not say why it closed; a request does. */
  async #down(api: Api): Promise<void> {
    if (this.link === 'up') this.link = 'reconnecting';
    if (this.#looks === undefined) {
      this.#looks = setInterval(() => void this.#look(api), LOOK_MS);
      void this.#look(api);
    }
    try {
      await api.status(AbortSignal.timeout(35_000));
    } catch (error) {
      if (error instanceof DOMException || this.phase !== 'ready' || this.#isUp) return;
      this.reason = asError(error);
      this.link = PASSING.includes(this.reason.code) ? 'reconnecting' : 'disconnected';
    }
  }

  /** Asks the bridge; somebody else may have logged in meanwhile. */
  async #look(api: Api): Promise<void> {
    try {
      this.bridge = await api.bridgeStatus(AbortSignal.timeout(LOOK_MS));
      if (this.bridge.state === 'connected' && !this.#isUp) this.house?.live.retry();
    } catch {
      // Without the bridge nothing is known; the requests of the tiles tell it.
      this.bridge = undefined;
    }
  }

  /** Asked again after a request: it may have come back meanwhile. */
  get #isUp(): boolean {
    return this.link === 'up';
  }

  #expire(): void {
    if (this.phase === 'expired') return;
    this.phase = 'expired';
    clearInterval(this.#looks);
    this.#tokens.forget();
    this.house?.live.close();
    this.house = undefined;
  }
}
