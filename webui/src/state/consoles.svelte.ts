// The consoles of the CLI tile. A console is a run with a terminal: it lives on the node, not here, so
// a reload finds it again, and every view of this cluster shows the same ones.
import { asError, type Api } from '../lib/api';
import type { Live } from '../lib/live';
import { uuidV7 } from '../lib/uuid';
import { isFinal, type ApiError, type Run, type TerminalSize } from '../lib/wire';

export interface ConsoleTab {
  id: string;
  run: Run;
  number: number;
  /** What the program calls the window; made visible before it is shown. */
  title: string;
}

export class Consoles {
  tabs = $state<ConsoleTab[]>([]);
  current = $state<string>();
  starting = $state(false);
  error = $state.raw<ApiError>();
  /** The last size of a terminal on the screen; a new console starts with it. */
  size: TerminalSize = { cols: 80, rows: 24 };
  #read = false;
  #last = 0;

  constructor(
    readonly api: Api,
    readonly live: Live,
  ) {}

  get tab(): ConsoleTab | undefined {
    return this.tabs.find((tab) => tab.id === this.current);
  }

  /** Takes the consoles that live, oldest last. The first time, and with none, it starts one. */
  found(runs: Run[]): void {
    for (const run of runs.toReversed())
      if (!this.tabs.some((tab) => tab.id === run.id)) this.#add(run);
    if (this.#read) return;
    this.#read = true;
    this.current = this.tabs.at(-1)?.id;
    if (this.tabs.length === 0) void this.open();
  }

  /** Starts a console and shows it. False when there is none. */
  async open(): Promise<boolean> {
    if (this.starting) return false;
    this.starting = true;
    this.error = undefined;
    const id = uuidV7();
    try {
      const run = await this.api.start(id, { command: 'loginShell', pty: { ...this.size } });
      if (!this.tabs.some((tab) => tab.id === id)) this.#add(run);
      this.current = id;
      return true;
    } catch (error) {
      this.error = asError(error);
      return false;
    } finally {
      this.starting = false;
    }
  }

  /** What is known of a console's run changed. */
  changed(run: Run): void {
    const tab = this.tabs.find((each) => each.id === run.id);
    if (tab) tab.run = run;
  }

  /** Ends a console that lives as closing a window does, and takes its tab away. */
  async close(tab: ConsoleTab): Promise<void> {
    try {
      if (!isFinal(tab.run.state)) await this.api.signal(tab.id, 'HUP');
      const at = this.tabs.findIndex((each) => each.id === tab.id);
      this.tabs = this.tabs.filter((each) => each.id !== tab.id);
      if (this.current === tab.id) this.current = (this.tabs[at] ?? this.tabs.at(-1))?.id;
    } catch (error) {
      this.error = asError(error);
    }
  }

  #add(run: Run): void {
    this.tabs.push({ id: run.id, run, number: ++this.#last, title: '' });
  }
}
