// Words and checks of shares. Pure.
import { validFor, when } from './format';
import { visible } from './visible';
import type { Share, SharedObject } from './wire';

/** For how long a share can be given, in milliseconds; nothing for "until it is taken back". */
export const TERMS: [string, number | undefined][] = [
  ['1 hour', 3_600_000],
  ['8 hours', 8 * 3_600_000],
  ['1 day', 24 * 3_600_000],
  ['7 days', 7 * 24 * 3_600_000],
  ['Until I take it back', undefined],
];

/** Reads login names that are separated by spaces or commas. The one that cannot be a name is told. */
export function guestsOf(text: string): { guests: string[]; wrong: string | undefined } {
  const guests = [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
  return { guests, wrong: guests.find((name) => !/^[\w][\w.@-]{0,63}\$?$/.test(name)) };
}

/** The run of an object, if it is one. */
export const runOf = (object: SharedObject): string | undefined =>
  'run' in object ? object.run.run : undefined;

/** `with bob, eve · may type · 3 h 10 m left`, and to a guest `by alice · you may look · …`. */
export function terms(share: Share, now: number, mine: boolean): string {
  const { spec, owner, createdMs } = share;
  const who = mine ? `with ${spec.guests.map(visible).join(', ')}` : `by ${visible(owner)}`;
  const may = `${mine ? '' : 'you '}may ${spec.access === 'drive' ? 'type' : 'look'}`;
  const what = 'file' in spec.object ? 'a file' : may;
  const until =
    spec.expiresMs === undefined
      ? `since ${when(createdMs, now)}`
      : spec.expiresMs <= now
        ? 'has ended'
        : `${validFor(spec.expiresMs - now)} left`;
  return [who, what, until].join(' · ');
}
