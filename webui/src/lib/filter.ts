// Which runs are shown, and in which order. The agent is asked for those that match; what an older agent sends
// anyway is left out here.
//
// Used by `state/narrow.svelte.ts`. Pure.
import { commandLine } from './visible';
import { isConsole, isFinal, type Run } from './wire';

export type Outcome = 'any' | 'live' | 'done' | 'failed' | 'lost';
export type Order = 'newest' | 'longest' | 'largest' | 'exit';

export interface RunFilter {
  text: string;
  outcome: Outcome;
  kind: 'all' | 'commands' | 'consoles';
  order: Order;
}

export const NOTHING: RunFilter = { text: '', outcome: 'any', kind: 'all', order: 'newest' };

export const isNarrow = (filter: RunFilter): boolean =>
  (Object.keys(NOTHING) as (keyof RunFilter)[]).some((key) => filter[key] !== NOTHING[key]);

/** The words of `GET /v1/runs` for a filter; what it cannot say, such as an exit code, is left to `matches`. */
export function query({ text, outcome, kind }: RunFilter): string {
  const words = [];
  if (text.trim()) words.push(`text=${encodeURIComponent(text.trim())}`);
  if (outcome === 'live') words.push('live=true');
  if (outcome === 'done' || outcome === 'failed') words.push('state=exited');
  if (outcome === 'lost') words.push('state=lost');
  if (kind !== 'all') words.push(`console=${kind === 'consoles'}`);
  return words.map((word) => `&${word}`).join('');
}

export function matches(run: Run, { text, outcome, kind }: RunFilter): boolean {
  const wanted = text.trim().toLowerCase();
  if (kind !== 'all' && isConsole(run) !== (kind === 'consoles')) return false;
  if (!hasOutcome(run, outcome)) return false;
  if (!wanted) return true;
  return [run.name ?? '', commandLine(run.spec.command)].some((line) =>
    line.toLowerCase().includes(wanted),
  );
}

function hasOutcome(run: Run, outcome: Outcome): boolean {
  switch (outcome) {
    case 'any':
      return true;
    case 'live':
      return !isFinal(run.state);
    case 'done':
      return run.state === 'exited' && run.exitCode === 0;
    case 'failed':
      return run.state === 'exited' && run.exitCode !== 0;
    case 'lost':
      return run.state === 'lost' || run.state === 'orphaned';
    default:
      return outcome satisfies never;
  }
}

export const bytesOf = ({ sizes }: Run): number => sizes.stdout + sizes.stderr + sizes.tty;

/** How long it took, or has taken until now by the node's clock. */
const lasted = (run: Run, nodeNow: number): number =>
  run.startedMs === undefined ? -1 : (run.endedMs ?? nodeNow) - run.startedMs;

/** Failures first, the highest code first of all; what has none comes last. */
const exitRank = (run: Run): number => {
  if (run.state === 'lost') return 1000;
  return run.exitCode ?? -1;
};

/** Returns them in an order; those that are alike stay newest first. */
export function ordered(runs: Run[], order: Order, nodeNow: number): Run[] {
  const by: Record<Order, (run: Run) => number> = {
    newest: (run) => run.createdMs,
    longest: (run) => lasted(run, nodeNow),
    largest: bytesOf,
    exit: exitRank,
  };
  const rank = by[order];
  return runs.toSorted((a, b) => rank(b) - rank(a) || b.createdMs - a.createdMs);
}
