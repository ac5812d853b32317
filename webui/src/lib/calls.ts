// The requests that only later views make: what is done with a run, its search and its export, shares.
//
// Called by `state/*` of the later chunk. Invariant: each goes through `Api.request`, the page's only fetch.
import type { Snapshot } from '../tiles/terminal';
import type { Api } from './api';
import { toBytes } from './visible';
import type {
  Run,
  RunMarks,
  Screen,
  SearchResult,
  ShareList,
  Share,
  ShareSpec,
  StreamName,
} from './wire';

export type ExportKind = 'raw' | 'text' | 'cast';

/** What is looked for in a run's output. */
export interface Wanted {
  pattern: string;
  /** As it is written, not a regular expression. */
  fixed: boolean;
  ignoreCase: boolean;
}

export const mark = (api: Api, id: string, marks: RunMarks) =>
  api.send<Run>('PATCH', api.of(id), marks);

export const remove = (api: Api, id: string) => api.send<undefined>('DELETE', api.of(id));

export const search = (api: Api, id: string, wanted: Wanted, limit: number, signal: AbortSignal) =>
  api.json<SearchResult>(
    api.of(
      id,
      `/search?pattern=${encodeURIComponent(wanted.pattern)}&fixed=${wanted.fixed}` +
        `&ignoreCase=${wanted.ignoreCase}&limit=${limit}`,
    ),
    { signal },
  );

/** An export begins anew each time: only the raw streams can go on at an offset. */
export const exported = (
  api: Api,
  id: string,
  as: ExportKind,
  stream: StreamName | undefined,
  signal: AbortSignal,
) =>
  api.request(api.of(id, `/export?as=${as}${stream ? `&stream=${stream}` : ''}`), {
    signal,
  });

export const screen = (api: Api, id: string, lines: number) =>
  api.json<Screen>(api.of(id, `/screen?lines=${lines}`));

export const shares = async (api: Api): Promise<ShareList> => {
  const list = await api.json<Partial<ShareList>>('v1/shares');
  return { ...list, byMe: list.byMe ?? [], withMe: list.withMe ?? [] };
};

export const share = (api: Api, id: string, spec: ShareSpec) =>
  api.send<Share>('PUT', `v1/shares/${id}`, spec);

export const unshare = (api: Api, id: string) => api.send<undefined>('DELETE', `v1/shares/${id}`);

/** So many lines above a console's screen come with it. */
const SCREEN_LINES = 2000;

/** The screen of a console, or nothing from an agent that cannot tell: then its last output is replayed. */
export async function snapshot(api: Api, id: string): Promise<Snapshot | undefined> {
  try {
    const { size, offset, data } = await screen(api, id, SCREEN_LINES);
    return { size, offset, data: toBytes(data) };
  } catch {
    return undefined;
  }
}
