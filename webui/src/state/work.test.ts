// The states behind the views of the later chunk, with an agent of paper.
import { describe, expect, it, vi } from 'vitest';
import { Failure, type Api } from '../lib/api';
import { NOTHING } from '../lib/filter';
import type { Run, RunList } from '../lib/wire';
import { Consoles } from './consoles.svelte';
import { Narrow } from './narrow.svelte';
import { Runs } from './runs.svelte';
import { OutputSearch } from './search.svelte';
import { OutputWindow } from './window.svelte';

const run = (id: string, more: Partial<Run> = {}): Run => ({
  id,
  spec: { command: 'loginShell', pty: { cols: 80, rows: 24 } },
  state: 'running',
  createdMs: 1,
  host: 'login1',
  sizes: { stdout: 0, stderr: 0, tty: 0 },
  ...more,
});
const paper = (calls: object) => calls as unknown as Api;

describe('the tabs of the consoles', () => {
  const consoles = () => new Consoles(paper({ start: vi.fn() }), {} as never);

  it('are of the newest at first; the others wait in the list', () => {
    const tabs = consoles();
    tabs.found(Array.from({ length: 12 }, (_, i) => run(`c${i}`)));
    expect(tabs.tabs.map(({ id }) => id)).toEqual(['c7', 'c6', 'c5', 'c4', 'c3', 'c2', 'c1', 'c0']);
    expect(tabs.current).toBe('c0');
  });

  it('are never more by themselves, and a user can always open one', () => {
    const tabs = consoles();
    const runs = Array.from({ length: 8 }, (_, i) => run(`c${i}`));
    tabs.found(runs);
    tabs.found([run('new'), ...runs]);
    expect(tabs.tabs).toHaveLength(8);
    tabs.attach(run('new'));
    expect(tabs.current).toBe('new');
  });

  it('can go without ending the console, stay away, and come back', () => {
    const tabs = consoles();
    tabs.found([run('b'), run('a')]);
    const tab = tabs.tab;
    if (tab) tabs.leave(tab);
    tabs.found([run('c'), run('b'), run('a')]);
    expect(tabs.tabs.map(({ id }) => id)).toEqual(['a', 'c']);
    tabs.attach(run('b'));
    expect(tabs.current).toBe('b');
    expect(tabs.tabs).toHaveLength(3);
  });

  it('of a guest who may only look are for looking', () => {
    const tabs = consoles();
    tabs.attach(run('x'), 'alice', false);
    expect(tabs.tab).toMatchObject({ owner: 'alice', viewOnly: true, mayDrive: false });
  });

  it('of a guest are made anew when more is shared, or it is shared again', () => {
    const tabs = consoles();
    tabs.attach(run('x'), 'alice', false);
    tabs.attach(run('x'), 'alice', true);
    expect(tabs.tabs).toHaveLength(1);
    expect(tabs.tab).toMatchObject({ viewOnly: false, mayDrive: true, cut: false });
    if (tabs.tab) tabs.tab.cut = true;
    tabs.attach(run('x'), 'alice', true);
    expect(tabs.tabs).toHaveLength(1);
    expect(tabs.tab).toMatchObject({ id: 'x', cut: false });
  });
});

describe('a filter', () => {
  const runsOf = (answers: RunList[]) => {
    const asked: string[] = [];
    const api = paper({
      runs: async (_limit: number, _before: string | undefined, where = '') => {
        asked.push(where);
        return answers.shift() ?? { runs: [] };
      },
    });
    return { runs: new Runs(api, () => undefined), asked };
  };
  const command = (id: string, shell: string) => run(id, { spec: { command: { shell } } });

  it('asks the agent, and leaves out what an older one sends anyway', async () => {
    const found = { runs: [command('a', 'make all'), command('b', 'ls')] };
    const { runs, asked } = runsOf([found]);
    const narrow = new Narrow(runs);
    await narrow.set({ ...NOTHING, text: 'MAKE', kind: 'commands' });
    expect(asked).toEqual(['&text=MAKE&console=false']);
    expect(runs.narrowed?.map(({ id }) => id)).toEqual(['a']);
    await narrow.set(NOTHING);
    expect(runs.narrowed).toBeUndefined();
  });

  it('forgets what was deleted while its answer was under way', async () => {
    const { runs } = runsOf([{ runs: [command('a', 'make'), command('b', 'make')] }]);
    const narrow = new Narrow(runs);
    const set = narrow.set({ ...NOTHING, text: 'make' });
    runs.event({ type: 'gone', seq: 1, run: 'a' });
    await set;
    expect(runs.narrowed?.map(({ id }) => id)).toEqual(['b']);
  });
});

describe('a part of an output', () => {
  const text = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('');
  const bytes = new TextEncoder().encode(text);
  const api = paper({
    stream: async (_id: string, _stream: string, from: number) => new Response(bytes.slice(from)),
  });

  it('shows the line that was looked for, and what stands before it', async () => {
    const goal = text.indexOf('line 15000\n');
    const part = new OutputWindow(api, 'x', 'stdout', goal);
    await vi.waitFor(() => expect(part.ready).toBe(true));
    expect(part.output.row(part.row ?? -1)?.text).toBe('line 15000');
    expect(part.output.row(0)?.text).toMatch(/^line \d+$/);
    expect(part.to).toBe(bytes.length);
    await part.earlier();
    expect(part.from).toBe(0);
    expect(part.output.row(0)?.text).toBe('line 0');
    expect(part.to).toBe(bytes.length);
  });
});

describe('a search', () => {
  it('shows the answer to the newest question only', async () => {
    const answers = new Map<string, (value: unknown) => void>();
    const json = (path: string) =>
      new Promise((resolve) => answers.set(/pattern=(\w+)/.exec(path)?.[1] ?? '', resolve));
    const search = new OutputSearch(
      paper({ json, of: (id: string, what: string) => id + what }),
      'x',
    );
    search.text = 'old';
    const old = search.now();
    search.text = 'new';
    const now = search.now();
    answers.get('new')?.({ hits: [{ line: 2 }] });
    answers.get('old')?.({ hits: [{ line: 1 }] });
    await Promise.all([old, now]);
    expect(search.hits?.map(({ line }) => line)).toEqual([2]);
  });

  it('says that an agent is too old for it', async () => {
    const json = () => Promise.reject(new Failure({ code: 'notFound', message: '?' }, 404));
    const search = new OutputSearch(paper({ json, of: () => '' }), 'x');
    search.text = 'x';
    await search.now();
    expect(search.error?.message).toMatch(/too old/);
  });
});
