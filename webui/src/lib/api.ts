// Every HTTP request of the page. A failure is a `Failure` with the agent's own words.
//
// Called by `state/*`. Invariants: the only `fetch` of the page; URLs are relative to the page, so it
// works behind any proxy's prefix; the token goes in a header, never in a URL.
import type { ClusterStatus } from './bridge';
import { percentEncode } from './paths';
import type {
  AgentStatus,
  ApiError,
  Listing,
  PageToken,
  Run,
  RunList,
  RunSpec,
  SortKey,
  StreamName,
  Viewer,
} from './wire';

/** A failed request, with the `ApiError` that tells why. */
export class Failure extends Error {
  constructor(
    readonly error: ApiError,
    readonly status = 0,
  ) {
    super(error.message);
  }
}

/** Returns any exception as an `ApiError`. */
export function asError(error: unknown): ApiError {
  if (error instanceof Failure) return error.error;
  return { code: 'internal', message: String(error) };
}

const OFFLINE: ApiError = {
  code: 'offline',
  message: 'the bridge on your computer does not answer',
  hints: ['run the cell again, or `hpcclient open`'],
};

async function failure(response: Response): Promise<Failure> {
  const fallback: ApiError = {
    code: response.status === 401 ? 'unauthorized' : 'internal',
    message: `the server answered ${response.status}`,
  };
  const body: unknown = await response.json().catch(() => undefined);
  const known = typeof body === 'object' && body !== null && 'code' in body && 'message' in body;
  return new Failure(known ? (body as ApiError) : fallback, response.status);
}

/** Sends a request and returns its answer; anything but success is a `Failure`. */
export async function send(url: URL, token: string, init: Request_ = {}): Promise<Response> {
  const headers = { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) };
  let response: Response;
  try {
    response = await fetch(url, { ...init, headers, credentials: 'omit', cache: 'no-store' });
  } catch (error) {
    if (error instanceof DOMException) throw error; // Cancelled, or too slow for the caller.
    throw new Failure(OFFLINE);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** What a request with this body needs. */
export const jsonBody = (method: string, body?: unknown): Request_ => ({
  method,
  headers: { 'content-type': 'application/json' },
  ...(body === undefined ? {} : { body: JSON.stringify(body) }),
});

/** Changes the code of a fragment for a token. */
export async function pageToken(base: string, code: string): Promise<PageToken> {
  const response = await send(new URL('page-token', base), '', jsonBody('POST', { code }));
  return (await response.json()) as PageToken;
}

export class Api {
  /**
   * @param base the page's own URL without its file
   * @param expired called when the token is refused
   * @param owner whose runs and files these are, when another user shares them
   */
  constructor(
    readonly base: string,
    readonly token: string,
    readonly expired: () => void,
    readonly owner?: string,
  ) {}

  /** The same for what another user shares. */
  guest = (owner: string) => new Api(this.base, this.token, this.expired, owner);

  /** Where a run is, and what of it. */
  of = (id: string, what = '') => `${this.#root}/runs/${encodeURIComponent(id)}${what}`;

  get #root(): string {
    return this.owner ? `v1/shared/${encodeURIComponent(this.owner)}` : 'v1';
  }

  /** The URL of the live socket. */
  get live(): string {
    return new URL('v1/live', this.base).href.replace(/^http/, 'ws');
  }

  status = (signal?: AbortSignal) => this.json<AgentStatus>('v1/status', { signal });

  /** The connection as the bridge sees it; it answers when the node does not. */
  bridgeStatus = (signal?: AbortSignal) => this.json<ClusterStatus>('bridge-status', { signal });

  /** Where the user logs in again. */
  login = () => this.send<{ url: string }>('POST', 'login');

  /** A page of runs; `where` narrows it (`&state=lost`). An older agent answers with all of them. */
  runs = (limit: number, before?: string, where = '') =>
    this.json<RunList>(`v1/runs?limit=${limit}${before ? `&before=${before}` : ''}${where}`);

  run = (id: string) => this.json<Run>(this.of(id));

  viewers = (id: string) => this.json<Viewer[]>(this.of(id, '/viewers'));

  start = (id: string, spec: RunSpec) => this.send<Run>('PUT', `v1/runs/${id}`, spec);

  signal = (id: string, signal: string) =>
    this.send<Run>('POST', this.of(id, '/signal'), { signal });

  kill = (id: string) => this.send<Run>('POST', this.of(id, '/kill'));

  files = (path: Uint8Array, sort: SortKey, offset: number, limit: number, signal: AbortSignal) =>
    this.json<Listing>(
      `v1/files?path=${percentEncode(path)}&sort=${sort}&offset=${offset}&limit=${limit}`,
      { signal },
    );

  /** Bytes of a file from an offset, to the end or to `end` (not included). */
  file = (path: Uint8Array, from: number, end: number | undefined, signal: AbortSignal) => {
    const headers: Record<string, string> = {};
    if (from > 0 || end !== undefined)
      headers['range'] = `bytes=${from}-${end === undefined ? '' : end - 1}`;
    return this.request(`${this.#root}/file?path=${percentEncode(path)}`, { headers, signal });
  };

  /** Bytes of a run's stream from an offset to what is stored now. */
  stream = (id: string, stream: StreamName, from: number, signal: AbortSignal) =>
    this.request(this.of(id, `/${stream}?from=${from}&follow=false`), { signal });

  /** Asks for anything of the agent; what only later views need is in `calls.ts`. */
  async request(path: string, init: Request_ = {}): Promise<Response> {
    try {
      return await send(new URL(path, this.base), this.token, init);
    } catch (error) {
      if (error instanceof Failure && error.status === 401) this.expired();
      throw error;
    }
  }

  async json<T>(path: string, init: { signal?: AbortSignal | undefined } = {}): Promise<T> {
    const response = await this.request(path, init.signal ? { signal: init.signal } : {});
    return (await response.json()) as T;
  }

  /** Sends; the answer of a 204 is nothing. */
  async send<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.request(path, jsonBody(method, body));
    return (response.status === 204 ? undefined : await response.json()) as T;
  }
}

type Request_ = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> };
