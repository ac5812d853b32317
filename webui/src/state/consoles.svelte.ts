// The tabs of the CLI tile. A console is a run with a terminal: it lives on the node, not here, so a
// reload finds it again, every view of this cluster shows the same ones, and a tab can be closed without
// ending it. All that live are in `Runs.consoles`.
import { asError, type Api } from '../lib/api';
import type { Live } from '../lib/live';
import type { Standing } from '../lib/channel';
import { visible } from '../lib/visible';
import { uuidV7 } from '../lib/uuid';
import { isFinal, type ApiError, type Run, type TerminalSize } from '../lib/wire';

export interface ConsoleTab {
  id: string;
  run: Run;
  number: number;
  /** What the program calls the window; made visible before it is shown. */
  title: string;
  /** Whose it is, when another user shares it. */
  owner: string | undefined;
  /** Whether nothing may be typed here: it was shared so. */
  mayDrive: boolean;
  /** Whether the user wants to look only. */
  viewOnly: boolean;
  /** Nothing comes any more, such as after the end of a share. */
  cut: boolean;
}

/** So many consoles get a tab by themselves; the others wait in the list. */
const MOST_TABS = 8;

/** What a tab is called: the user's name for it, else the program's title. */
export const nameOfTab = ({ run, title, number }: ConsoleTab): string =>
  visible(run.name || title) || `console ${number}`;

/** As who a tab follows its console. */
export function standing({ owner, viewOnly }: ConsoleTab): Standing {
  return { ...(owner && { owner }), ...(viewOnly && { access: 'view' }) };
}

export class Consoles {
  tabs = $state<ConsoleTab[]>([]);
  current = $state<string>();
  starting = $state(false);
  /** The console whose name is being changed. */
  renaming = $state<string>();
  error = $state.raw<ApiError>();
  /** The last size of a terminal on the screen; a new console starts with it. */
  size: TerminalSize = { cols: 80, rows: 24 };
  #read = false;
  #last = 0;
  /** Their tabs were closed here, and they go on. */
  readonly #left = new Set<string>();

  constructor(
    readonly api: Api,
    readonly live: Live,
  ) {}

  get tab(): ConsoleTab | undefined {
    return this.tabs.find((tab) => tab.id === this.current);
  }

  /** Takes the consoles that live, oldest last. The first time, and with none, it starts one. */
  found(runs: Run[]): void {
    for (const run of runs) this.changed(run);
    const isOpen = (id: string) => this.tabs.some((tab) => tab.id === id);
    const others = runs.filter(({ id }) => !isOpen(id) && !this.#left.has(id));
    const room = Math.max(0, MOST_TABS - this.tabs.length);
    for (const run of others.slice(0, room).toReversed()) this.#add(run);
    for (const { id } of runs) if (!isOpen(id)) this.#left.add(id);
    if (this.#read) return;
    this.#read = true;
    this.current = this.tabs.at(-1)?.id;
    if (runs.length === 0 && this.tabs.length === 0) void this.open();
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
      this.leave(tab);
    } catch (error) {
      this.error = asError(error);
    }
  }

  /** Takes a tab away; its console goes on. */
  leave(tab: ConsoleTab): void {
    this.#left.add(tab.id);
    const at = this.tabs.findIndex((each) => each.id === tab.id);
    this.tabs = this.tabs.filter((each) => each.id !== tab.id);
    if (this.current === tab.id) this.current = (this.tabs[at] ?? this.tabs.at(-1))?.id;
  }

  /** Shows a console in a tab, also one of another user that is shared. */
  attach(run: Run, owner?: string, mayDrive = true): void {
    const known = this.tabs.find((tab) => tab.id === run.id);
    // What is shared anew, or for more, is opened anew.
    if (known && (known.cut || known.mayDrive !== mayDrive)) this.leave(known);
    if (!this.tabs.some((tab) => tab.id === run.id)) this.#add(run, owner, mayDrive);
    this.#left.delete(run.id);
    this.current = run.id;
  }

  #add(run: Run, owner?: string, mayDrive = true): void {
    const number = ++this.#last;
    this.tabs.push({
      id: run.id,
      run,
      number,
      title: '',
      owner,
      mayDrive,
      viewOnly: !mayDrive,
      cut: false,
    });
  }
}
