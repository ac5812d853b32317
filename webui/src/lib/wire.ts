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

export type RunMarks = Partial<WithoutNull<Schemas['RunMarks']>>;
export type SearchHit = Schemas['SearchHit'];
export type SearchResult = Omit<WithoutNull<Schemas['SearchResult']>, 'cut'> & { cut?: string };
export type Screen = Schemas['Screen'];
export type SharedObject = Schemas['SharedObject'];
export type ShareSpec = WithoutNull<Schemas['ShareSpec']>;
export type Share = WithoutNull<Schemas['Share']>;
export type ShareList = Omit<WithoutNull<Schemas['ShareList']>, 'off'> & { off?: string };

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
