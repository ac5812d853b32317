// The place of a terminal on the page: how many columns and rows it has room for, and which part of a larger one is seen.
//
// Made by `terminal.ts`. Invariants: it never changes the terminal's size, which the agent decides; what it wishes for is
// told by `wished`.
import { FitAddon } from '@xterm/addon-fit';
import type { Terminal } from '@xterm/xterm';
import type { TerminalSize } from '../lib/wire';

export interface RoomOptions {
  /** Whether the terminal keeps a size of the past, whatever its place. */
  fixed: boolean;
  /** The size that its place on the page has room for. */
  sized(size: TerminalSize): void;
  /** The terminal has this size, which is not the one of its place; nothing when it is. */
  boxed(size: TerminalSize | undefined): void;
  /** The place became another. */
  wish(): void;
}

const RESIZE_MS = 60;
/** An answer to a wish for a size takes a round trip; only what lasts longer is worth a word. */
const BOXED_MS = 900;

export class Room {
  private readonly fitter = new FitAddon();
  private readonly watcher: ResizeObserver;
  private resizing: ReturnType<typeof setTimeout> | undefined;
  private boxing: ReturnType<typeof setTimeout> | undefined;
  private frame = 0;
  /** Whether the terminal has more rows than its place. */
  private overflows = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly terminal: Terminal,
    private readonly options: RoomOptions,
  ) {
    terminal.loadAddon(this.fitter);
    terminal.onCursorMove(() => this.showCursor());
    this.watcher = new ResizeObserver(() => {
      clearTimeout(this.resizing);
      this.resizing = setTimeout(() => options.wish(), RESIZE_MS);
    });
    this.watcher.observe(element);
  }

  /** Returns the size that its place has room for, when that is another than it has. */
  fit(): TerminalSize | undefined {
    clearTimeout(this.boxing);
    if (this.options.fixed || this.element.offsetParent === null) return undefined;
    const room = this.fitter.proposeDimensions();
    if (!room || Number.isNaN(room.cols) || room.cols < 2) return undefined;
    this.options.sized(room);
    const { cols, rows } = this.terminal;
    this.overflows = rows > room.rows;
    if (room.cols === cols && room.rows === rows) {
      this.options.boxed(undefined);
      return undefined;
    }
    this.boxing = setTimeout(() => this.options.boxed({ cols, rows }), BOXED_MS);
    this.showCursor();
    return room;
  }

  dispose(): void {
    clearTimeout(this.resizing);
    clearTimeout(this.boxing);
    cancelAnimationFrame(this.frame);
    this.watcher.disconnect();
  }

  /** Where the terminal is larger than its place, the place follows the cursor. */
  private showCursor(): void {
    // Measuring lays the page out, in a flood at every frame.
    if (!this.overflows) return;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      const { scrollHeight, clientHeight, scrollTop } = this.element;
      if (scrollHeight <= clientHeight) return;
      const row = scrollHeight / this.terminal.rows;
      const top = this.terminal.buffer.active.cursorY * row;
      if (top < scrollTop) this.element.scrollTop = top;
      else if (top + row > scrollTop + clientHeight) {
        this.element.scrollTop = top + row - clientHeight;
      }
    });
  }
}
