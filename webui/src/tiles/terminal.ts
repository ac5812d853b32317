// A terminal on the screen: xterm.js between a run's tty and the user's keys. A chunk of its own.
//
// Mounted by `Terminal.svelte`. Invariants: bytes count as shown only when xterm has parsed them, so a
// flood is bounded by the credit and Ctrl-C stays quick; what programs asked the terminal in the past is
// not answered during a replay; output can neither write the clipboard (no OSC 52) nor open a link
// without a Ctrl-click; the focus is never taken unasked.
// Not here: anything of Svelte or of the page's entry, which this chunk must not import.
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import css from '@xterm/xterm/css/xterm.css?inline';
import type { Follower } from '../lib/channel';
import type { Following } from '../lib/live';
import { afterFirstLine, REPLAY_BYTES } from '../lib/replay';
import type { ApiError, Run, StreamSizes, TerminalSize } from '../lib/wire';
import { palette } from './palette';

export interface TerminalOptions {
  run: Run;
  /** History: nothing is typed and the size is the one that was. */
  readOnly: boolean;
  follow(from: StreamSizes, follower: Follower): Following;
  changed(run: Run): void;
  titled(title: string): void;
  sized(size: TerminalSize): void;
  failed(error: ApiError): void;
  /** The keys that leave the terminal or act on its frame. */
  left(why: 'leave' | 'find'): void;
}

export interface MountedTerminal {
  focus(): void;
  find(text: string, back: boolean): boolean;
  recolour(): void;
  dispose(): void;
}

const dim = (text: string) => `\r\n\x1b[0;2m[${text}]\x1b[0m\r\n`;
const RESIZE_MS = 60;
const ECHO_MS = 5000;

/** xterm's own rules come with the chunk, once. */
const style = document.createElement('style');
style.textContent = css;
document.head.append(style);

export function mount(element: HTMLElement, options: TerminalOptions): MountedTerminal {
  const terminal = new Terminal({
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono'),
    fontSize: 11.5,
    lineHeight: 1.2,
    scrollback: 10_000,
    cursorStyle: 'bar',
    cursorInactiveStyle: options.readOnly ? 'none' : 'outline',
    disableStdin: options.readOnly,
    macOptionIsMeta: true,
    minimumContrastRatio: 4.5,
    theme: palette(),
    cols: options.run.spec.pty?.cols ?? 80,
    rows: options.run.spec.pty?.rows ?? 24,
  });
  const fit = new FitAddon();
  const search = new SearchAddon();
  terminal.loadAddon(fit);
  terminal.loadAddon(search);
  terminal.loadAddon(new WebLinksAddon(openLink));
  terminal.open(element);
  terminal.onTitleChange(options.titled);
  terminal.attachCustomKeyEventHandler((event) => ourKey(event, options));

  const tty = options.run.sizes.tty;
  const from = Math.max(0, tty - REPLAY_BYTES);
  let cut = from > 0;
  let parsed = from;
  const replaying = () => parsed < tty;
  // Sizes we asked for and that have not come back yet: their echo is no news. One that was lost with
  // a connection never comes back.
  let asked: (TerminalSize & { until: number })[] = [];
  let told = false;

  const following = options.follow(
    { stdout: 0, stderr: 0, tty: from },
    {
      data(_, bytes, done) {
        const shown = cut ? bytes.subarray(afterFirstLine(bytes)) : bytes;
        cut = false;
        terminal.write(shown, () => {
          const before = replaying();
          parsed += bytes.length;
          done();
          if (before && !replaying()) replayed();
        });
      },
      gap(_, missing) {
        parsed += missing;
        terminal.write(dim(`${missing} bytes are not kept any more`));
      },
      skipped(_, missing) {
        parsed += missing;
        cut = true;
        // CAN ends a sequence whose rest was passed over.
        terminal.write('\x18' + dim(`${missing} bytes passed over; Runs has them all`));
      },
      resize(size) {
        asked = asked.filter(({ until }) => until > performance.now());
        const echo = asked[0];
        if (echo && echo.cols === size.cols && echo.rows === size.rows) asked.shift();
        else if (asked.length === 0) terminal.resize(size.cols, size.rows);
      },
      run(run, ended) {
        options.changed(run);
        if (ended && !options.readOnly) terminal.write(dim(howItEnded(run)) + '\x1b[?25l');
      },
      failed: options.failed,
    },
  );

  function replayed(): void {
    fitNow();
    // A screen of the past may be larger than its place: its last line is what is wanted.
    if (options.readOnly) element.scrollTop = element.scrollHeight;
  }

  function fitNow(): void {
    if (options.readOnly || replaying() || element.offsetParent === null) return;
    const size = fit.proposeDimensions();
    if (!size || Number.isNaN(size.cols) || size.cols < 2) return;
    options.sized(size);
    if (size.cols === terminal.cols && size.rows === terminal.rows && told) return;
    terminal.resize(size.cols, size.rows);
    told = following.resize(size);
    if (told) asked.push({ ...size, until: performance.now() + ECHO_MS });
  }

  const encoder = new TextEncoder();
  let byKey = false;
  terminal.onKey(() => (byKey = true));
  terminal.onData((text) => {
    // During a replay only a key counts: the rest are answers to questions of the past.
    const isAnswer = replaying() && !byKey;
    byKey = false;
    if (isAnswer) return;
    // Who types has the terminal's size; another viewer may have changed it.
    fitNow();
    following.write(encoder.encode(text));
  });
  terminal.onBinary((text) => {
    if (!replaying()) following.write(Uint8Array.from(text, (char) => char.charCodeAt(0)));
  });

  let timer: ReturnType<typeof setTimeout> | undefined;
  const watcher = new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(fitNow, RESIZE_MS);
  });
  watcher.observe(element);
  fitNow();

  return {
    focus: () => terminal.focus(),
    find: (text, back) => (back ? search.findPrevious(text) : search.findNext(text)),
    recolour: () => (terminal.options.theme = palette()),
    dispose() {
      clearTimeout(timer);
      watcher.disconnect();
      following.close();
      terminal.dispose();
    },
  };
}

function openLink(event: MouseEvent, url: string): void {
  if (event.ctrlKey || event.metaKey) window.open(url, '_blank', 'noopener,noreferrer');
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

function howItEnded(run: Run): string {
  if (run.state === 'lost') return `lost: ${run.reason ?? 'nobody saw it end'}`;
  if (run.signal) return `ended by ${run.signal}`;
  return `ended, exit code ${run.exitCode ?? 'unknown'}`;
}
