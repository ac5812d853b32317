// The login page's requests: which clusters there are, connect, answer, open.
import { jsonBody, send } from '../lib/api';
import type { ClusterSummary, ConnectEvent } from '../lib/bridge';
import { lines } from './lines';

export interface LoginApi {
  clusters(): Promise<ClusterSummary[]>;
  /** The events of a login; whoever stops reading leaves it. */
  connect(cluster: string, signal: AbortSignal): AsyncIterable<ConnectEvent>;
  /** Answers a question, or declines it with `null`. */
  answer(id: string, answer: string | null): Promise<void>;
  /** A new address of the cluster's page. */
  page(cluster: string): Promise<string>;
}

/** @param base the page's own URL without its file */
export function loginApi(base: string, token: string): LoginApi {
  const ask = (path: string, init = {}) => send(new URL(path, base), token, init);
  const of = (cluster: string, verb: string) =>
    `v1/clusters/${encodeURIComponent(cluster)}/${verb}`;
  return {
    async clusters() {
      const list = (await (await ask('v1/clusters')).json()) as { clusters: ClusterSummary[] };
      return list.clusters;
    },
    async *connect(cluster, signal) {
      const response = await ask(of(cluster, 'connect'), { ...jsonBody('POST'), signal });
      if (!response.body) return;
      for await (const line of lines(response.body)) yield JSON.parse(line) as ConnectEvent;
    },
    async answer(id, answer) {
      await ask(`v1/prompts/${encodeURIComponent(id)}`, jsonBody('POST', { answer }));
    },
    async page(cluster) {
      const address = (await (await ask(of(cluster, 'page'), jsonBody('POST'))).json()) as {
        url: string;
      };
      return address.url;
    },
  };
}
