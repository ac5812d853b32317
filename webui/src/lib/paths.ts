// Paths are bytes: this joins and splits them, and keeps them whole in URLs.
import { fromBytes } from './visible';

/** Percent-encodes bytes for a query: only what is safe everywhere stays as it is. */
export function percentEncode(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) {
    const char = String.fromCharCode(byte);
    out += /[A-Za-z0-9._~/-]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

/** Returns the path of a name in a directory. */
export function join(directory: Uint8Array, name: Uint8Array): Uint8Array {
  const slash = directory.at(-1) === 0x2f ? 0 : 1;
  const path = new Uint8Array(directory.length + slash + name.length);
  path.set(directory);
  if (slash) path[directory.length] = 0x2f;
  path.set(name, directory.length + slash);
  return path;
}

/** A step of the way to a directory. */
export interface Crumb {
  label: string;
  path: Uint8Array;
}

/** Returns the steps from the root, or from the home directory as `~`, to an absolute path. */
export function crumbs(path: Uint8Array, home: Uint8Array): Crumb[] {
  const inHome =
    home.length > 1 &&
    home.every((byte, i) => path[i] === byte) &&
    (path.length === home.length || path[home.length] === 0x2f);
  const start = inHome ? home.length : 0;
  const out: Crumb[] = [{ label: inHome ? '~' : '/', path: inHome ? home : Uint8Array.of(0x2f) }];
  let from = start + 1;
  for (let i = from; i <= path.length; i++) {
    if (i < path.length && path[i] !== 0x2f) continue;
    if (i > from) out.push({ label: fromBytes(path.subarray(from, i)), path: path.slice(0, i) });
    from = i + 1;
  }
  return out;
}
