// Plays a recording on a terminal that answers nothing. Part of the terminal's own chunk.
//
// Mounted by `Player.svelte`. To go back, it begins anew: a recording is bounded, and xterm reads it in a second.
// Invariant: only the newest wish for a moment is played to its end.
import { Terminal } from '@xterm/xterm';
import type { Cast } from '../lib/cast';
import { look, palette } from './palette';
import { guard, linkHandler } from './safety';

export interface MountedPlayer {
  /** Shows the screen as it was at a moment, in seconds. */
  show(seconds: number): Promise<void>;
  recolour(): void;
  dispose(): void;
}

/** So much is handed to xterm at once. */
const PIECE_CHARS = 256 * 1024;

export function mountPlayer(element: HTMLElement, cast: Cast): MountedPlayer {
  const terminal = new Terminal({
    ...look(),
    scrollback: 1000,
    disableStdin: true,
    cursorInactiveStyle: 'bar',
    linkHandler: linkHandler(element),
    ...cast.size,
  });
  guard(terminal, () => false);
  terminal.open(element);
  /** How many events are on the screen. */
  let shown = 0;
  let wish = 0;
  let last = Promise.resolve();

  const written = (text: string) =>
    new Promise<void>((resolve) => (text ? terminal.write(text, resolve) : resolve()));

  async function play(until: number, mine: number): Promise<void> {
    if (until < shown) {
      terminal.reset();
      terminal.resize(cast.size.cols, cast.size.rows);
      shown = 0;
    }
    while (shown < until && mine === wish) {
      let text = '';
      let event = cast.events[shown];
      while (shown < until && event?.kind === 'output' && text.length < PIECE_CHARS) {
        text += event.text;
        event = cast.events[++shown];
      }
      await written(text);
      if (text || event?.kind !== 'resize') continue;
      terminal.resize(event.size.cols, event.size.rows);
      shown++;
    }
  }

  return {
    show(seconds) {
      const mine = ++wish;
      // One after another: each begins with what the one before it left on the screen.
      last = last.then(() => play(cast.after(seconds), mine));
      return last;
    },
    recolour: () => (terminal.options.theme = palette()),
    dispose() {
      wish++;
      terminal.dispose();
    },
  };
}
