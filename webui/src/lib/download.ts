// Fetches a byte stream into a Blob, going on at the offset where a lost connection cut it.
//
// Called by `state/downloads.svelte.ts`. The browser keeps a Blob's parts on disk when they are large.
import { asError } from './api';
import type { ApiError } from './wire';

const PART = 4 * 1024 * 1024;
const ATTEMPTS = 8;

export interface DownloadOptions {
  /** Asks for the bytes from an offset on. */
  open(from: number, signal: AbortSignal): Promise<Response>;
  signal: AbortSignal;
  progress(done: number): void;
  pause?(attempt: number): Promise<void>;
}

const wait = (attempt: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, Math.min(8000, 250 * 2 ** attempt)));

const isTransient = ({ code }: ApiError) => code === 'offline' || code === 'unavailable';

/** Returns all bytes. Attempts count from the last one that brought something. */
export async function download(options: DownloadOptions): Promise<Blob> {
  const parts: Blob[] = [];
  let done = 0;
  let version: string | null = null;
  for (let attempt = 0; ;) {
    try {
      const response = await options.open(done, options.signal);
      const tag = response.headers.get('etag') ?? response.headers.get('last-modified');
      if (version !== null && tag !== version)
        throw new Error('the file changed while it was read');
      version = tag;
      if (done > 0 && response.status === 200 && response.headers.has('accept-ranges')) {
        // The whole file came instead of its rest.
        parts.length = 0;
        done = 0;
      }
      for await (const part of partsOf(response)) {
        parts.push(part);
        done += part.size;
        attempt = 0;
        options.progress(done);
      }
      return new Blob(parts, { type: 'application/octet-stream' });
    } catch (error) {
      if (options.signal.aborted) throw error;
      const cut = error instanceof TypeError || isTransient(asError(error));
      if (!cut || ++attempt > ATTEMPTS) throw error;
      await (options.pause ?? wait)(attempt);
    }
  }
}

/** Reads a body in parts of a few MiB; what came before a cut is kept. */
async function* partsOf(response: Response): AsyncGenerator<Blob> {
  const reader = response.body?.getReader();
  if (!reader) return;
  let pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (value) {
        pieces.push(value);
        size += value.length;
      }
      if (size >= PART) {
        yield new Blob(pieces);
        pieces = [];
        size = 0;
      }
      if (done) break;
    }
  } catch (error) {
    if (size > 0) yield new Blob(pieces);
    throw error;
  }
  if (size > 0) yield new Blob(pieces);
}
