// Makes text that another program or user chose safe to look at: what would hide, reorder or
// imitate becomes a mark. The result is still only ever put into text nodes.
import type { ByteString, Command } from './wire';

// Control characters and marks that turn the direction of the text around.
const CONTROL = '\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069';
// Characters without a shape: two names could look the same. Logs may hold them (emoji use some).
const SHAPELESS =
  '\\u00ad\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200d\\u2060-\\u2065\\u206a-\\u206f' +
  '\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}';
const IN_NAMES = new RegExp(`[${CONTROL}${SHAPELESS}]`, 'gu');
const IN_OUTPUT = new RegExp(`[${CONTROL}]`, 'gu');

function mark(char: string): string {
  const hex = (char.codePointAt(0) ?? 0).toString(16).toUpperCase();
  return char < '\u0080' ? `‹${hex.padStart(2, '0')}›` : `‹U+${hex.padStart(4, '0')}›`;
}

/** Returns a name with every hidden character as a mark. */
export function visible(text: string): string {
  return text.replace(IN_NAMES, mark);
}

/** Returns a line of output with its control characters as marks; tabs are layout and stay. */
export function visibleLine(text: string): string {
  return text.replace(IN_OUTPUT, (char) => (char === '\t' ? char : mark(char)));
}

/** Returns bytes as visible text; a byte that is not UTF-8 shows as `‹E9›`. */
export function fromBytes(bytes: Uint8Array): string {
  try {
    return visible(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return oddBytes(bytes);
  }
}

function oddBytes(bytes: Uint8Array): string {
  let out = '';
  for (let at = 0; at < bytes.length;) {
    const char = utf8At(bytes, at);
    if (char) {
      out += visible(char.text);
      at += char.width;
    } else {
      out += `‹${(bytes[at] ?? 0).toString(16).toUpperCase().padStart(2, '0')}›`;
      at += 1;
    }
  }
  return out;
}

/** The well-formed character at an index, if there is one. */
function utf8At(bytes: Uint8Array, at: number): { text: string; width: number } | undefined {
  const first = bytes[at] ?? 0;
  const width = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return { text: decoder.decode(bytes.subarray(at, at + width)), width };
  } catch {
    return undefined;
  }
}

/** Returns the bytes of text from the wire. */
export function toBytes(text: ByteString): Uint8Array {
  if (typeof text === 'string') return new TextEncoder().encode(text);
  return Uint8Array.from(atob(text.base64), (char) => char.charCodeAt(0));
}

/** Returns a name from the wire as visible text. */
export function nameOf(text: ByteString): string {
  return typeof text === 'string' ? visible(text) : fromBytes(toBytes(text));
}

/** Returns a command as one visible line. */
export function commandLine(command: Command): string {
  if (command === 'loginShell') return 'login shell';
  if ('shell' in command) return nameOf(command.shell).trim().replaceAll('‹0A›', ' ↵ ');
  return command.argv.map((argument) => quoted(nameOf(argument))).join(' ');
}

function quoted(argument: string): string {
  return /^[\w@%+=:,./~-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

/** Returns a name that is fit for a file on the user's machine. */
export function downloadName(name: string): string {
  const clean = visible(name)
    .replace(/[/\\:*?"<>|]/g, '_')
    .replace(/^[.\s]+/, '_')
    .slice(0, 200);
  return clean || 'download';
}
