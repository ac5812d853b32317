// Files on their way to the user's machine. Each can be cancelled, and goes on after a lost connection.
import { asError } from '../lib/api';
import { download, type DownloadOptions } from '../lib/download';
import { downloadName } from '../lib/visible';
import { toasts } from './toasts.svelte';

export interface Download {
  id: number;
  name: string;
  done: number;
  /** What is expected, when it is known. */
  total: number | undefined;
  cancel(): void;
}

class Downloads {
  list = $state<Download[]>([]);
  #last = 0;

  async start(
    name: string,
    total: number | undefined,
    open: DownloadOptions['open'],
  ): Promise<void> {
    const abort = new AbortController();
    const id = ++this.#last;
    this.list.push({ id, name, done: 0, total, cancel: () => abort.abort() });
    const item = this.list.find((each) => each.id === id);
    try {
      const blob = await download({
        open,
        signal: abort.signal,
        progress: (done) => {
          if (item) item.done = done;
        },
      });
      save(blob, downloadName(name));
      toasts.ok(`Downloaded ${name}`);
    } catch (error) {
      if (!abort.signal.aborted)
        toasts.error({ ...asError(error), message: `${name}: ${asError(error).message}` });
    } finally {
      this.list = this.list.filter((each) => each.id !== id);
    }
  }
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser needs the URL until it has begun to write.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export const downloads = new Downloads();
