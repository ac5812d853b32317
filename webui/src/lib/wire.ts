// The words of the wire. The types come from `docs/openapi.json` (`npm run gen`), which comes from
// `crates/protocol`; `docs/protocol.md` tells how they are used.
// Not here: sending or decoding any of it (`api.ts`, `live.ts`, `frames.ts`).
import type { components } from './api.gen';

type Schemas = components['schemas'];

/** The wire leaves out what is empty and never says `null`. */
type WithoutNull<T> = T extends (infer Item)[]
  ? WithoutNull<Item>[]
  : T extends object
    ? { [Key in keyof T]: WithoutNull<Exclude<T[Key], null>> }
    : T;

export type ByteString = Schemas['ByteString'];
export type StreamSizes = Schemas['StreamSizes'];
export type StreamName = keyof StreamSizes;
export type TerminalSize = Schemas['TerminalSize'];
export type Command = Schemas['Command'];
export type RunSpec = WithoutNull<Schemas['RunSpec']>;
export type RunState = Schemas['RunState'];

/** The agent always tells the sizes; in the description they have a default. */
export type Run = WithoutNull<Schemas['Run']> & { sizes: StreamSizes };
export type RunList = Omit<WithoutNull<Schemas['RunList']>, 'runs'> & { runs: Run[] };
export type SortKey = Schemas['SortKey'];
export type FileEntry = WithoutNull<Schemas['FileEntry']>;
export type Listing = WithoutNull<Schemas['Listing']>;
export type AgentStatus = Schemas['AgentStatus'];

export type Access = Schemas['Access'];
export type Viewer = Schemas['Viewer'];

// By hand until the description has their routes: `crates/protocol/src/{run,output,share}.rs`.
export interface RunMarks {
  name?: string;
  pinned?: boolean;
}
export interface SearchHit {
  stream: StreamName;
  line: number;
  offset: number;
  tMs: number;
  text: ByteString;
}
export interface SearchResult {
  hits: SearchHit[];
  cut?: string;
}
export interface Screen {
  size: TerminalSize;
  offset: number;
  data: ByteString;
  scrollback: number;
}
export type SharedObject =
  { run: { run: string; streams?: StreamName[] } } | { file: { path: ByteString } };
export interface ShareSpec {
  object: SharedObject;
  guests: string[];
  access: Access;
  expiresMs?: number;
}
export interface Share {
  id: string;
  owner: string;
  spec: ShareSpec;
  title: string;
  createdMs: number;
}
export interface ShareList {
  byMe: Share[];
  withMe: Share[];
  off?: string;
}

/** `offline` is this page's own word for "nobody answered". */
export type ErrorCode = Schemas['ErrorCode'] | 'offline';
export type ApiError = Omit<WithoutNull<Schemas['ApiError']>, 'code'> & { code: ErrorCode };

export type Event =
  | Exclude<Schemas['Event'], { type: 'run' }>
  | (Omit<Extract<Schemas['Event'], { type: 'run' }>, 'run'> & { run: Run });
export type ViewerMessage = WithoutNull<Schemas['ViewerMessage']>;
type WireMessage = WithoutNull<Schemas['AgentMessage']>;
export type AgentMessage =
  | Exclude<WireMessage, { type: 'event' | 'error' }>
  | (Omit<Extract<WireMessage, { type: 'event' }>, 'event'> & { event: Event })
  | (Omit<Extract<WireMessage, { type: 'error' }>, 'error'> & { error: ApiError });

/** The bridge's answer to a page's code. */
export interface PageToken {
  token: string;
  cluster: string;
}

/** Says whether nothing will change any more. */
export const isFinal = (state: RunState): boolean => state === 'exited' || state === 'lost';

/** Says whether a run shows a terminal. */
export const isConsole = (run: Run): boolean => run.spec.pty !== undefined;
