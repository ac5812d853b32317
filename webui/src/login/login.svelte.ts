// A login from the choice of a cluster to its page.
//
//   starting ─► form ◄─────── cancel ──────┐
//       │        └─ connect ─► busy ─► done ─► (the cluster's page)
//       └─ (the code names a cluster) ─┘└─► failed ─ try again ─► busy
//
// Made once by `main.ts`. Invariants: what connects by itself was named by the code, never by the URL; an
// answer is sent once and kept nowhere.
import { asError, Failure } from '../lib/api';
import {
  certificate,
  type ClusterStatus,
  type ClusterSummary,
  type ConnectEvent,
  type PromptKind,
} from '../lib/bridge';
import type { ApiError, PageToken } from '../lib/wire';
import type { LoginApi } from './api';

export type Stage = 'starting' | 'form' | 'busy' | 'failed' | 'done' | 'expired';

/** What the server asks, in its own words. */
export interface Question {
  id: string;
  kind: PromptKind;
  text: string;
  echo: boolean;
}

/** What this needs of the browser; a test passes its own. */
export interface Around {
  takeCode(): string | undefined;
  /** The token of a page that was reloaded. */
  kept(): PageToken | undefined;
  keep(token: PageToken): void;
  exchange(code: string): Promise<PageToken>;
  api(token: string): LoginApi;
  /** Goes on to the cluster's page. */
  leave(url: string): void;
  /** Leaves the time to read a notice. */
  pause(): Promise<void>;
}

/** Returns the account of `user@host:port`. */
export const userOf = (destination = ''): string =>
  destination.slice(0, Math.max(0, destination.lastIndexOf('@')));

export class Login {
  stage = $state<Stage>('starting');
  clusters = $state.raw<ClusterSummary[]>([]);
  name = $state('');
  user = $state('');
  /** What was done so far, newest last. */
  steps = $state.raw<string[]>([]);
  question = $state.raw<Question>();
  error = $state.raw<ApiError>();
  /** What is worth knowing though it worked. */
  notices = $state.raw<string[]>([]);
  readonly #around: Around;
  /** The code until it is exchanged: it is taken out of the URL, and a bridge that was busy is asked again. */
  #code: string | undefined;
  #api: LoginApi | undefined;
  #abort: AbortController | undefined;

  constructor(around: Around) {
    this.#around = around;
  }

  /** The cluster of the list that is named, if it is one. */
  get known(): ClusterSummary | undefined {
    return this.clusters.find(({ name }) => name === this.name.trim());
  }

  /** What is connected: the name, with the account before it where that is another one. */
  get target(): string {
    const [name, user] = [this.name.trim(), this.user.trim()];
    const usual = user === '' || name.includes('@') || user === userOf(this.known?.destination);
    return usual ? name : `${user}@${name}`;
  }

  async start(): Promise<void> {
    this.stage = 'starting';
    try {
      const code = (this.#code ??= this.#around.takeCode());
      const fresh = code && (await this.#around.exchange(code));
      this.#code = undefined;
      if (fresh) this.#around.keep(fresh);
      const token = fresh || this.#around.kept();
      if (!token) return void (this.stage = 'expired');
      this.#api = this.#around.api(token.token);
      this.clusters = await this.#api.clusters();
      const only = this.clusters.length === 1 ? this.clusters[0]?.name : undefined;
      this.choose(token.cluster || only || '');
      if (fresh && fresh.cluster) return await this.connect();
      this.stage = 'form';
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Names a cluster; the account becomes the one that is known for it. */
  choose(name: string): void {
    this.name = name;
    this.user = userOf(this.known?.destination);
  }

  async connect(): Promise<void> {
    const { target } = this;
    // It failed before there was anything to connect.
    if (!this.#api || !target) return this.start();
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    this.stage = 'busy';
    this.steps = [];
    this.error = this.question = undefined;
    try {
      for await (const event of this.#api.connect(target, abort.signal)) {
        if (abort.signal.aborted) return;
        if (event.type === 'connected') return await this.#arrive(event.cluster);
        if (event.type === 'failed') throw new Failure(event.error);
        this.#hear(event);
      }
      throw new Failure({ code: 'unavailable', message: 'the bridge ended the login' });
    } catch (error) {
      if (!abort.signal.aborted) this.#fail(error);
    }
  }

  /** Answers the question, or declines it with `null`. */
  async answer(answer: string | null): Promise<void> {
    const { question } = this;
    if (!question) return;
    this.question = undefined;
    try {
      await this.#api?.answer(question.id, answer);
    } catch (error) {
      // The login may have given up waiting; its own last event tells why.
      if (!(error instanceof Failure && error.status === 404)) this.#fail(error);
    }
  }

  /** Leaves the login; it ends unless somebody else waits for it too. */
  cancel(): void {
    this.#abort?.abort();
    this.question = this.error = undefined;
    this.stage = 'form';
  }

  #hear(event: Extract<ConnectEvent, { type: 'progress' | 'prompt' }>): void {
    if (event.type === 'progress') this.steps = [...this.steps.slice(-5), event.message];
    else this.question = event;
  }

  async #arrive(cluster: ClusterStatus): Promise<void> {
    const notices = cluster.notices ?? [];
    const valid = certificate(cluster, Date.now());
    const isTold = notices.some((notice) => notice.includes('certificate'));
    this.notices = valid && !isTold ? [...notices, valid.text] : notices;
    this.question = undefined;
    this.stage = 'done';
    if (this.notices.length > 0) await this.#around.pause();
    const url = await this.#api?.page(cluster.name);
    if (url) this.#around.leave(url);
  }

  #fail(error: unknown): void {
    this.#abort?.abort();
    this.question = undefined;
    const isRefused = error instanceof Failure && error.status === 401;
    if (isRefused) this.#code = undefined;
    this.error = asError(error);
    this.stage = isRefused ? 'expired' : 'failed';
  }
}
