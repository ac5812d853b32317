// A file that is looked at: the beginning of a text, or an image. Nothing of it is ever run.
import { asError, Failure, type Api } from '../lib/api';
import { size } from '../lib/format';
import { headOf, IMAGE_BYTES, imageType, isBinary, TEXT_BYTES, textRows } from '../lib/preview';
import { ROW_CHARS } from '../lib/output';
import { PlainText } from '../lib/plain';
import { nameOf } from '../lib/visible';
import type { ApiError, FileEntry } from '../lib/wire';

export type Shown =
  | { kind: 'loading' }
  | { kind: 'text'; rows: string[]; note: string }
  | { kind: 'image'; url: string }
  | { kind: 'nothing'; why: string }
  | { kind: 'error'; error: ApiError };

export class Preview {
  shown = $state.raw<Shown>({ kind: 'loading' });
  readonly name: string;
  readonly #abort = new AbortController();

  constructor(
    readonly api: Api,
    readonly path: Uint8Array,
    readonly entry: FileEntry,
  ) {
    this.name = nameOf(entry.name);
    void this.load();
  }

  async load(): Promise<void> {
    this.shown = { kind: 'loading' };
    try {
      this.shown = await this.#look();
    } catch (error) {
      if (!this.#abort.signal.aborted) this.shown = { kind: 'error', error: asError(error) };
    }
  }

  /** Opens the bytes from an offset on, for a download. */
  bytes = (from: number, signal: AbortSignal) => this.api.file(this.path, from, undefined, signal);

  close(): void {
    this.#abort.abort();
    if (this.shown.kind === 'image') URL.revokeObjectURL(this.shown.url);
  }

  async #look(): Promise<Shown> {
    if (this.entry.kind === 'other' || this.entry.targetKind === 'other')
      return {
        kind: 'nothing',
        why: 'This is a device, a socket or a pipe. It has no content to show.',
      };
    if (this.entry.kind === 'symlink' && !this.entry.targetKind)
      return { kind: 'nothing', why: 'This link leads nowhere.' };
    const type = imageType(this.name);
    if (type && this.entry.size <= IMAGE_BYTES) return this.#image(type);
    return this.#text();
  }

  async #image(type: string): Promise<Shown> {
    const response = await this.api.file(this.path, 0, undefined, this.#abort.signal);
    // Of a link only the answer tells how large the image is.
    if (Number(response.headers.get('content-length')) > IMAGE_BYTES) {
      await response.body?.cancel();
      return { kind: 'nothing', why: 'This image is too large to show. Download it to open it.' };
    }
    // The type is ours, whatever the server says: an SVG is drawn by <img>, which runs nothing of it.
    const blob = new Blob([await response.arrayBuffer()], { type });
    return { kind: 'image', url: URL.createObjectURL(blob) };
  }

  async #text(): Promise<Shown> {
    const bytes = await this.#head();
    if (bytes.length === 0) return { kind: 'nothing', why: 'Empty file.' };
    if (isBinary(bytes))
      return { kind: 'nothing', why: 'This is a binary file. Download it to open it.' };
    const text = new PlainText().push(new TextDecoder().decode(bytes));
    const more = this.entry.size - bytes.length;
    let note = more > 0 ? `The first ${size(bytes.length)} of ${size(this.entry.size)}` : '';
    // The size of a link is not that of what it leads to.
    if (this.entry.kind === 'symlink')
      note = bytes.length < TEXT_BYTES ? '' : `The first ${size(bytes.length)}`;
    return { kind: 'text', rows: textRows(text, ROW_CHARS), note };
  }

  /** A range of nothing is an error, so it is asked for only where there are bytes for sure. */
  async #head(): Promise<Uint8Array> {
    const end = this.entry.kind === 'file' && this.entry.size > 0 ? TEXT_BYTES : undefined;
    try {
      const response = await this.api.file(this.path, 0, end, this.#abort.signal);
      return await headOf(response, TEXT_BYTES);
    } catch (error) {
      // It was emptied after the directory was read.
      if (error instanceof Failure && error.status === 416) return new Uint8Array(0);
      throw error;
    }
  }
}
