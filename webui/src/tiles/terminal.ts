// A terminal on the screen: xterm.js between a run's tty and the user's keys. A chunk of its own.
//
// Mounted by `Terminal.svelte`. Invariants: bytes count as shown only when they are on the screen, so a
// flood is bounded by the credit and Ctrl-C stays quick; nothing of the past is answered, and of the
// present only what `safety.ts` lists; the size is what the stream says it is, because the agent
// decides it; the focus is never taken unasked; after a flood of which a part was passed over, the screen and
// the nearer scroll-back are the agent's.
// Not here: anything of Svelte or of the page's entry, which this chunk must not import.
import { SearchAddon } from '@xterm/addon-search';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import type { Follower } from '../lib/channel';
import type { Following } from '../lib/live';
import { afterFirstLine, howItEnded, REPLAY_BYTES } from '../lib/replay';
import type { ApiError, Run, StreamSizes, TerminalSize } from '../lib/wire';
import { Calm } from './calm';
import { look, palette } from './palette';
import { Painter } from './painter';
import { Room } from './room';
import { guard, linkHandler, openLink } from './safety';

export { mountPlayer } from './player';

/** A console as it looks at an offset. */
export interface Snapshot {
  size: TerminalSize;
  offset: number;
  data: Uint8Array;
}

export interface TerminalOptions {
  run: Run;
  /** `view` follows and types nothing; `past` is history, where nothing follows its end. */
  mode: 'drive' | 'view' | 'past';
  /** The screen as the agent has it; nothing from an agent that cannot tell. */
  screen(): Promise<Snapshot | undefined>;
  /** The run as it is now. */
  fresh(): Promise<Run>;
  follow(from: StreamSizes, follower: Follower): Following;
  changed(run: Run): void;
  titled(title: string): void;
  /** The size that its place on the page has room for. */
  sized(size: TerminalSize): void;
  /** The terminal has this size, which is not the one of its place; nothing when it is. */
  boxed(size: TerminalSize | undefined): void;
  failed(error: ApiError): void;
  /** The keys that leave the terminal or act on its frame. */
  left(why: 'leave' | 'find'): void;
}

/** What the page around it says; what it looks like on the page is told to the component. */
export type UnboxedOptions = Omit<TerminalOptions, 'boxed'>;

export interface MountedTerminal {
  focus(): void;
  find(text: string, back: boolean): boolean;
  recolour(): void;
  dispose(): void;
}

/** RIS */
const RESET = [0x1b, 0x63];
const dim = (text: string) => `\r\n\x1b[0;2m[${text}]\x1b[0m\r\n`;

export function mount(element: HTMLElement, options: TerminalOptions): MountedTerminal {
  const drives = options.mode === 'drive';
  const terminal = new Terminal({
    ...look(),
    scrollback: 10_000,
    cursorInactiveStyle: drives ? 'outline' : 'none',
    disableStdin: !drives,
    linkHandler: linkHandler(element),
    cols: options.run.spec.pty?.cols ?? 80,
    rows: options.run.spec.pty?.rows ?? 24,
  });
  const search = new SearchAddon();
  terminal.loadAddon(search);
  terminal.loadAddon(new WebLinksAddon(openLink));
  /** Until what was written before this view came is on the screen. */
  let past = true;
  const maySend = guard(terminal, () => !past && drives);
  terminal.open(element);
  const { sized, boxed } = options;
  const room = new Room(element, terminal, { fixed: options.mode === 'past', sized, boxed, wish });
  terminal.onTitleChange(options.titled);
  terminal.attachCustomKeyEventHandler((event) => ourKey(event, options));

  let following: Following | undefined;
  let gone = false;
  let calm: Calm | undefined;
  const painter = new Painter();
  void options.screen().then((snapshot) => {
    if (gone) return;
    if (snapshot) restore(snapshot);
    else void replay();
  });

  function restore({ size, offset, data }: Snapshot): void {
    terminal.resize(size.cols, size.rows);
    terminal.write(data, caughtUp);
    follow(offset, false, offset);
  }

  /** Plays the end of what was written; what is known of its size may be old. */
  async function replay(): Promise<void> {
    const { sizes } = await options.fresh().catch(() => options.run);
    const from = Math.max(0, sizes.tty - REPLAY_BYTES);
    if (!gone) follow(from, from > 0);
  }

  /** Follows from an offset; bytes before `until`, without it before the stream's first state, are of the past. */
  function follow(from: number, inside: boolean, until?: number): void {
    let cut = inside;
    let parsed = from;
    let over: Run | undefined;
    let refused = false;
    const flood = (calm = new Calm(settle));
    const shown = (length: number) => {
      parsed += length;
      if (past && until !== undefined && parsed >= until) caughtUp();
    };
    following = options.follow(
      { stdout: 0, stderr: 0, tty: from },
      {
        data(_, bytes, done) {
          const visible = cut ? bytes.subarray(afterFirstLine(bytes)) : bytes;
          cut = false;
          flood.came(bytes.length);
          painter.came(bytes.length);
          terminal.write(visible, () => {
            painter.painted(done);
            shown(bytes.length);
          });
        },
        gap(_, missing) {
          terminal.write(dim(`${missing} bytes are not kept any more`), () => shown(missing));
        },
        skipped(_, missing) {
          cut = true;
          // CAN ends a sequence whose rest was passed over.
          const note = '\x18' + dim(`${missing} bytes passed over; Runs has them all`);
          terminal.write(note, () => shown(missing));
          flood.passed();
          painter.passed(missing);
        },
        resize(size) {
          // In its place among the bytes.
          terminal.write('', () => {
            if (gone) return;
            terminal.resize(size.cols, size.rows);
            room.fit();
          });
        },
        run(run, ended) {
          options.changed(run);
          if (ended && options.mode !== 'past') end((over = run));
          else if (until === undefined && parsed >= (until = run.sizes.tty)) caughtUp();
        },
        failed(error) {
          refused = true;
          // Its words are the agent's: no part of them is a sequence.
          terminal.write(dim(error.message.replace(/\p{Cc}/gu, ' ')));
          options.failed(error);
        },
      },
    );

    /** Puts the agent's screen in the place of one that misses what was passed over. */
    async function settle(isStill: () => boolean): Promise<boolean> {
      const was = over;
      const snapshot = await options.screen();
      if (gone || refused) return true;
      // Of what ended meanwhile the last screen is wanted.
      if (!snapshot || !isStill() || was !== over) return false;
      const { size, offset, data } = snapshot;
      // What is still to be parsed comes first; what came after the snapshot comes once more.
      terminal.write('', () => {
        past = true;
        until = Math.max(parsed, offset);
        parsed = offset;
        terminal.resize(size.cols, size.rows);
      });
      // In one piece: between the two a key would mean something else.
      terminal.write(new Uint8Array([...RESET, ...data]), () => shown(0));
      if (over) end(over);
      cut = false;
      following?.restart({ stdout: 0, stderr: 0, tty: offset });
      return true;
    }
  }

  function end(run: Run): void {
    terminal.write(dim(howItEnded(run)) + '\x1b[?25l', () => (past = true));
  }

  function caughtUp(): void {
    past = false;
    wish();
    // A screen of the past may be larger than its place: its last line is what is wanted.
    if (options.mode === 'past') element.scrollTop = element.scrollHeight;
  }

  /** Asks for the size of its place. The agent decides; the stream tells. */
  function wish(): void {
    const size = room.fit();
    if (size && drives && !past) following?.resize(size);
  }

  const encoder = new TextEncoder();
  terminal.onData((text) => {
    if (!maySend(text)) return;
    painter.pressed();
    // Who types has the terminal's size, if the agent agrees.
    wish();
    following?.write(encoder.encode(text));
  });
  terminal.onBinary((text) => {
    following?.write(Uint8Array.from(text, (char) => char.charCodeAt(0)));
  });

  room.fit();

  return {
    focus: () => terminal.focus(),
    find: (text, back) => (back ? search.findPrevious(text) : search.findNext(text)),
    recolour: () => (terminal.options.theme = palette()),
    dispose() {
      gone = true;
      calm?.stop();
      room.dispose();
      following?.close();
      terminal.dispose();
    },
  };
}

/** Returns whether xterm may have the key. */
function ourKey(event: KeyboardEvent, options: TerminalOptions): boolean {
  const shifted = event.ctrlKey && event.shiftKey && !event.altKey;
  let action: (() => void) | undefined;
  if (event.key === 'F1') action = () => options.left('leave');
  else if (shifted && event.code === 'KeyF') action = () => options.left('find');
  else if (shifted && event.code === 'KeyC') action = () => document.execCommand('copy');
  if (!action) return true;
  event.preventDefault();
  if (event.type === 'keydown') action();
  return false;
}
