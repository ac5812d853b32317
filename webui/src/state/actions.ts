// What a user does with a run, each with its word when it is done or failed.
//
// Called by the views of the later chunk. What fails is told in a toast, because it is the user's own action.
import { asError } from '../lib/api';
import { exported, mark, remove, type ExportKind } from '../lib/calls';
import { commandLine, downloadName, visible } from '../lib/visible';
import { uuidV7 } from '../lib/uuid';
import { isConsole, type Run, type RunMarks, type StreamName } from '../lib/wire';
import { downloads } from './downloads.svelte';
import type { House } from './page.svelte';
import { toasts } from './toasts.svelte';

export type Stop = 'INT' | 'TERM' | 'HUP' | 'KILL';

/** What a run is called in one line. */
export const titleOf = (run: Run): string =>
  visible(run.name ?? '') || commandLine(run.spec.command);

/** Does something; false, and a toast, when it failed. */
async function attempt(action: () => Promise<void>): Promise<boolean> {
  try {
    await action();
    return true;
  } catch (error) {
    toasts.error(asError(error));
    return false;
  }
}

export const note = (house: House, run: Run, marks: RunMarks) =>
  attempt(async () => {
    const now = await mark(house.api, run.id, marks);
    house.consoles.changed(now);
    house.runs.put(now);
  });

export const stop = (house: House, run: Run, how: Stop) =>
  attempt(async () => {
    const { api } = house;
    house.runs.put(how === 'KILL' ? await api.kill(run.id) : await api.signal(run.id, how));
  });

/** Interrupts a run that another user shares to drive; no other signal is a guest's. */
export const interruptOf = (house: House, owner: string, run: Run) =>
  attempt(async () => {
    await house.api.guest(owner).signal(run.id, 'INT');
  });

/** Runs the same once more, under a new id: in the same session, or as a new console. */
export const again = (house: House, run: Run) =>
  attempt(async () => {
    const started = await house.api.start(uuidV7(), run.spec);
    house.runs.put(started);
    house.runs.selected = started.id;
    if (isConsole(started)) house.consoles.attach(started);
    toasts.ok(`Started again: ${titleOf(run)}`);
  });

export const discard = (house: House, run: Run) =>
  attempt(async () => {
    await remove(house.api, run.id);
    house.runs.event({ type: 'gone', seq: 0, run: run.id });
    toasts.ok(`Deleted: ${titleOf(run)}`);
  });

/** The line that shows a run's output in a cell, wherever it was started. */
export const attachCode = (run: Run): string => `hpcrpc.runs['${run.id}'].attach()`;

/** Puts text on the clipboard. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A frame may not, unless its notebook allows it: then as a field's text.
    const field = document.createElement('textarea');
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
  toasts.ok(`Copied ${text}`);
}

/** A name for a file of a run: what the user calls it, else the beginning of its id. */
const fileName = (run: Run, ending: string): string =>
  downloadName(`${run.name || `run-${run.id.slice(0, 13)}`}.${ending}`);

/** Saves the bytes of a stream as they are; goes on after a lost connection. */
export function save(house: House, run: Run, stream: StreamName): void {
  const name = fileName(run, stream === 'tty' ? 'tty' : `${stream}.txt`);
  void downloads.start(name, run.sizes[stream], (from, signal) =>
    house.api.stream(run.id, stream, from, signal),
  );
}

/** Saves what the agent makes of it. */
export function saveAs(house: House, run: Run, as: ExportKind, stream?: StreamName): void {
  const name = fileName(run, as === 'cast' ? 'cast' : `${stream ?? 'output'}.txt`);
  void downloads.start(name, undefined, (from, signal) => {
    if (from > 0) throw new Error('the connection was lost; export it again');
    return exported(house.api, run.id, as, stream, signal);
  });
}
