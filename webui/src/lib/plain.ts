// Terminal output as plain text: escape sequences are taken out, however the bytes are cut.
//
// Called by `output.ts` for streams that are shown as text. Invariants: never longer than its input;
// a sequence without an end cannot swallow what follows it for longer than LIMIT characters.

const ESC = 0x1b;
const LIMIT = 4096;

type State = 'text' | 'escape' | 'csi' | 'string' | 'stringEscape' | 'oneMore';

export class PlainText {
  #state: State = 'text';
  #length = 0;

  /** Returns the text of the next piece. */
  push(text: string): string {
    if (this.#state === 'text' && !text.includes('\x1b')) return text;
    let out = '';
    let from = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (this.#state === 'text') {
        if (code !== ESC) continue;
        out += text.slice(from, i);
        this.#state = 'escape';
        this.#length = 0;
        continue;
      }
      // A line's end is never part of a sequence that a program meant: the text goes on with it.
      const broken = code === 0x0a || ++this.#length > LIMIT;
      this.#state = broken ? 'text' : nextState(this.#state, code);
      from = code === 0x0a ? i : i + 1;
    }
    if (this.#state === 'text') out += text.slice(from);
    return out;
  }
}

function nextState(state: Exclude<State, 'text'>, code: number): State {
  switch (state) {
    case 'escape':
      if (code === 0x5b) return 'csi';
      if ([0x5d, 0x50, 0x58, 0x5e, 0x5f].includes(code)) return 'string';
      return code >= 0x20 && code <= 0x2f ? 'oneMore' : 'text';
    case 'csi':
      return code >= 0x40 && code <= 0x7e ? 'text' : 'csi';
    case 'string':
      if (code === 0x07) return 'text';
      return code === ESC ? 'stringEscape' : 'string';
    case 'stringEscape':
      return code === 0x5c ? 'text' : 'string';
    case 'oneMore':
      return code >= 0x20 && code <= 0x2f ? 'oneMore' : 'text';
    default:
      return state satisfies never;
  }
}
