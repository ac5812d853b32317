// Which rows of a long list are on the screen. Rows have one height.

/** Browsers clamp the height of an element; a longer list scrolls in proportion. */
export const MAX_HEIGHT = 15_000_000;
const SPARE = 6;

export interface Window {
  /** The height of the whole list, in pixels. */
  height: number;
  first: number;
  /** Not included. */
  last: number;
  /** Where the first row stands, in pixels from the list's top. */
  top: number;
  /** List pixels per scrolled pixel. */
  scale: number;
}

export function rowsInView(count: number, row: number, scroll: number, view: number): Window {
  const whole = count * row;
  const height = Math.min(whole, MAX_HEIGHT);
  const scale = whole > height ? (whole - view) / (height - view) : 1;
  const from = scroll * scale;
  const first = Math.max(0, Math.floor(from / row) - SPARE);
  const last = Math.min(count, Math.ceil((from + view) / row) + SPARE);
  return { height, first: Math.min(first, last), last, top: first * row - from + scroll, scale };
}
