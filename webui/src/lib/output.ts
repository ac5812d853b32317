// What a run wrote, as rows for the screen, in bounded memory.
//
// Fed by `state/output.svelte.ts` from the live socket. Invariants: at most MAX_CHARS characters are kept,
// the oldest rows go first and are counted; a row is never longer than ROW_CHARS; rows stand in the
// order in which the bytes came, stdout and stderr told apart.
import { PlainText } from './plain';
import type { StreamName } from './wire';

export const MAX_CHARS = 6 * 1024 * 1024;
export const ROW_CHARS = 2000;
/** A row costs memory even when it is empty. */
const ROW_COST = 32;

export interface Row {
  stream: StreamName | 'note';
  text: string;
}

interface Reader {
  decoder: TextDecoder;
  plain: PlainText;
  /** A carriage return came last: the next character decides whether it starts the line anew. */
  returned: boolean;
}

const reader = (): Reader => ({
  decoder: new TextDecoder(),
  plain: new PlainText(),
  returned: false,
});

export class Output {
  #rows: Row[] = [];
  #start = 0;
  #chars = 0;
  #open = false;
  #readers = new Map<StreamName, Reader>();
  /** How many rows were dropped at the front. */
  dropped = 0;

  constructor(readonly maxChars = MAX_CHARS) {}

  get length(): number {
    return this.#rows.length - this.#start;
  }

  row(index: number): Row | undefined {
    return this.#rows[this.#start + index];
  }

  /** Takes the next bytes of a stream. */
  push(stream: StreamName, bytes: Uint8Array): void {
    const state = this.#reader(stream);
    this.#text(stream, state, state.plain.push(state.decoder.decode(bytes, { stream: true })));
    this.#trim();
  }

  /** Says something about the output between its rows. */
  note(text: string): void {
    this.#add({ stream: 'note', text });
    this.#open = false;
    this.#readers.clear();
    this.#trim();
  }

  #reader(stream: StreamName): Reader {
    const known = this.#readers.get(stream) ?? reader();
    this.#readers.set(stream, known);
    return known;
  }

  #text(stream: StreamName, state: Reader, text: string): void {
    let at = 0;
    while (at < text.length) {
      const end = nextBreak(text, at);
      if (end > at) {
        if (state.returned) this.#overwrite(stream);
        state.returned = false;
        this.#append(stream, text.slice(at, end));
      }
      if (text[end] === '\n') {
        if (!this.#continues(stream)) this.#add({ stream, text: '' });
        this.#open = false;
        state.returned = false;
      } else if (text[end] === '\r') {
        state.returned = true;
      }
      at = end + 1;
    }
  }

  #continues(stream: StreamName): boolean {
    return this.#open && this.#rows.at(-1)?.stream === stream;
  }

  #overwrite(stream: StreamName): void {
    const last = this.#rows.at(-1);
    if (!last || !this.#continues(stream)) return;
    this.#chars -= last.text.length;
    last.text = '';
  }

  #append(stream: StreamName, text: string): void {
    for (let at = 0; at < text.length;) {
      let last = this.#rows.at(-1);
      if (!last || !this.#continues(stream) || last.text.length >= ROW_CHARS) {
        last = { stream, text: '' };
        this.#add(last);
        this.#open = true;
      }
      const piece = text.slice(at, at + ROW_CHARS - last.text.length);
      last.text += piece;
      this.#chars += piece.length;
      at += piece.length;
    }
  }

  #add(row: Row): void {
    this.#rows.push(row);
    this.#chars += row.text.length + ROW_COST;
  }

  #trim(): void {
    while (this.#chars > this.maxChars && this.length > 1) {
      this.#chars -= (this.#rows[this.#start]?.text.length ?? 0) + ROW_COST;
      this.#start++;
      this.dropped++;
    }
    // Moving the array is worth it only when half of it is gone.
    if (this.#start > 4096 && this.#start > this.#rows.length / 2) {
      this.#rows = this.#rows.slice(this.#start);
      this.#start = 0;
    }
  }
}

function nextBreak(text: string, from: number): number {
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x0a || code === 0x0d) return i;
  }
  return text.length;
}
