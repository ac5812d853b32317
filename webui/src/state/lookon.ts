// Who looks at a run of another user: their agent tells those who follow it, and pushes nothing, so it is asked.
//
// Called by what shows a run. Of this user's own runs the events tell.
import type { Api } from '../lib/api';
import type { Runs } from './runs.svelte';

const EVERY_MS = 2000;

/** Keeps `runs.viewers` true for a run, until the answer is called. */
export function lookOn(runs: Pick<Runs, 'look'>, id: string, api: Api): (() => void) | undefined {
  if (!api.owner) return void runs.look(id);
  // Not at once: only who follows it already is told.
  const timer = setInterval(() => {
    if (document.visibilityState === 'visible') void runs.look(id, api);
  }, EVERY_MS);
  return () => clearInterval(timer);
}
