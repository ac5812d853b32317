// The keys that act on the run that is selected. With Shift, because `g r` and its like go to the tiles.
//
// Called by `Runs.svelte` for keys that no field wanted; `Keys.svelte` lists them.
import { isFinal } from '../lib/wire';
import { again, attachCode, copy, note, stop } from '../state/actions';
import type { House } from '../state/page.svelte';

/** Returns whether the key meant something here. */
export function runKey(event: KeyboardEvent, house: House): boolean {
  const { runs } = house;
  const run = runs.current;
  const { target, key } = event;
  const inField = target instanceof Element && target.closest('input, select, textarea, .xterm');
  if (inField || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return false;
  // Caps Lock is no Shift.
  if (/^[A-Z]$/.test(key) && !event.shiftKey) return false;
  if (key === '/') {
    document.querySelector<HTMLElement>('[data-filter="runs"]')?.focus();
    return true;
  }
  if (!run || runs.guest) return false;
  const lives = !isFinal(run.state);
  const actions: Record<string, (() => void) | false> = {
    R: () => void again(house, run),
    C: () => void copy(attachCode(run)),
    S: () => (runs.asked = { what: 'share', run }),
    P: () => void note(house, run, { pinned: !run.pinned }),
    F: () => (runs.searching = true),
    I: lives && (() => void stop(house, run, 'INT')),
    K: lives && (() => (runs.asked = { what: 'kill', run })),
    F2: () => (runs.asked = { what: 'rename', run }),
    Delete: !lives && (() => (runs.asked = { what: 'delete', run })),
  };
  const action = actions[key];
  if (action) action();
  return Boolean(action);
}
