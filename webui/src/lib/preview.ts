// How a file can be shown, decided from its name and its first bytes.

export const TEXT_BYTES = 256 * 1024;
export const IMAGE_BYTES = 32 * 1024 * 1024;

const IMAGES: Record<string, string> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  webp: 'image/webp',
  avif: 'image/avif',
  bmp: 'image/bmp',
  ico: 'image/x-icon',
  svg: 'image/svg+xml',
};

/** Returns the type of an image by the name's ending. It is only ever used for an `<img>`. */
export function imageType(name: string): string | undefined {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? undefined : IMAGES[name.slice(dot + 1).toLowerCase()];
}

/** Says whether bytes look like anything but text: a NUL, or many that are not UTF-8 text. */
export function isBinary(bytes: Uint8Array): boolean {
  const head = bytes.subarray(0, 8192);
  if (head.includes(0)) return true;
  // The last character may be cut.
  const text = new TextDecoder().decode(head.subarray(0, Math.max(0, head.length - 3)));
  let odd = 0;
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    if (code === 0xfffd || (code < 0x20 && ![0x09, 0x0a, 0x0c, 0x0d, 0x1b].includes(code))) odd++;
  }
  return odd > text.length / 10;
}

/** Reads the first bytes of an answer and leaves the rest. */
export async function headOf(response: Response, limit: number): Promise<Uint8Array> {
  const head = new Uint8Array(limit);
  const reader = response.body?.getReader();
  let length = 0;
  while (reader && length < limit) {
    const { done, value } = await reader.read();
    if (done) break;
    const piece = value.subarray(0, limit - length);
    head.set(piece, length);
    length += piece.length;
  }
  await reader?.cancel();
  return head.subarray(0, length);
}

/** Splits text into rows for the screen; a last line without an end counts. */
export function textRows(text: string, rowChars: number): string[] {
  const rows: string[] = [];
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  for (const line of lines) {
    const clean = line.endsWith('\r') ? line.slice(0, -1) : line;
    for (let at = 0; at === 0 || at < clean.length; at += rowChars)
      rows.push(clean.slice(at, at + rowChars));
  }
  return rows;
}
