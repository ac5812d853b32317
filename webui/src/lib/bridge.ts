// The words of the bridge, which are in no OpenAPI document: `crates/protocol/src/bridge.rs` by hand.
//
// Used by the dashboard for the state of its connection, and by the login page (`login/`).
// Not here: requests (`api.ts`, `login/api.ts`).
import { validFor } from './format';
import type { ApiError } from './wire';

export type ClusterState = 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'failed';

/** What is known of a cluster before it is chosen. */
export interface ClusterSummary {
  name: string;
  /** `user@host:port` as far as it is known. */
  destination: string;
  state: ClusterState;
}

export interface Certificate {
  keyId: string;
  source: string;
  validUntilMs?: number;
}

/** What this page reads of a `ClusterStatus`. */
export interface ClusterStatus extends ClusterSummary {
  node?: string;
  via?: string;
  login?: { certificate?: Certificate };
  waiting?: string;
  retryMs?: number;
  notices?: string[];
  error?: ApiError;
}

export type PromptKind = 'hostKey' | 'password' | 'passphrase' | 'question';

export type ConnectEvent =
  | { type: 'progress'; message: string }
  | { type: 'prompt'; id: string; kind: PromptKind; text: string; echo: boolean }
  | { type: 'connected'; cluster: ClusterStatus }
  | { type: 'failed'; error: ApiError };

/** Under this the user is warned. */
const SOON_MS = 30 * 60_000;

/** What to say of the certificate of a login, if it has one that ends. */
export function certificate(
  status: ClusterStatus | undefined,
  now: number,
): { text: string; soon: boolean } | undefined {
  const until = status?.login?.certificate?.validUntilMs;
  if (until === undefined) return undefined;
  const left = until - now;
  const text = left > 0 ? `certificate valid ${validFor(left)}` : 'certificate expired';
  return { text, soon: left < SOON_MS };
}

/** Returns `login02 via login01`, or nothing while no node is known. */
export function whereabouts(status: ClusterStatus | undefined): string | undefined {
  if (!status?.node) return undefined;
  return status.via ? `${status.node} via ${status.via}` : status.node;
}

/** Returns another page's URL as this page has to open it: the same name of loopback, the same colours. */
export function pageUrl(url: string, hostname: string, theme: string): string {
  const there = new URL(url);
  // Only then are both one site with the notebook, and may keep their tokens over a reload.
  if (hostname === '127.0.0.1') there.hostname = hostname;
  there.searchParams.set('theme', theme);
  return there.href;
}
