import { describe, expect, it } from 'vitest';
import { headOf, imageType, isBinary, textRows } from './preview';
import { afterFirstLine } from './replay';
import { uuidV7 } from './uuid';
import { MAX_HEIGHT, rowsInView } from './window';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('previews', () => {
  it('tell text from binary', () => {
    expect(isBinary(bytes('plain\ttext\r\n\x1b[31mred'))).toBe(false);
    expect(isBinary(bytes('日本'.repeat(5000)).subarray(0, 8192))).toBe(false);
    expect(isBinary(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0))).toBe(true);
    expect(isBinary(Uint8Array.from({ length: 300 }, (_, i) => 128 + (i % 100)))).toBe(true);
  });

  it('read no more than they show', async () => {
    const read = async (text: string, limit: number) =>
      new TextDecoder().decode(await headOf(new Response(text), limit));
    expect(await read('0123456789', 4)).toBe('0123');
    expect(await read('01', 4)).toBe('01');
    expect(await read('', 4)).toBe('');
  });

  it('know images by their names', () => {
    expect(imageType('A.PNG')).toBe('image/png');
    expect(imageType('x.svg')).toBe('image/svg+xml');
    expect(imageType('png')).toBeUndefined();
    expect(imageType('x.html')).toBeUndefined();
  });

  it('cut text into rows', () => {
    expect(textRows('a\r\n\nbcd\n', 2)).toEqual(['a', '', 'bc', 'd']);
  });
});

describe('a replay', () => {
  it('starts after the line that it cut', () => {
    expect(afterFirstLine(bytes('31mhalf\nwhole'))).toBe(8);
    expect(afterFirstLine(bytes('no end'))).toBe(0);
  });
});

describe('a long list', () => {
  it('renders what is in view', () => {
    expect(rowsInView(100_000, 24, 24_000, 240)).toMatchObject({
      first: 994,
      last: 1016,
      top: 23_856,
    });
    expect(rowsInView(0, 24, 0, 240)).toMatchObject({ first: 0, last: 0 });
  });

  it('reaches its end beyond what browsers can scroll', () => {
    const shown = rowsInView(10_000_000, 24, MAX_HEIGHT - 240, 240);
    expect(shown.last).toBe(10_000_000);
  });
});

describe('run ids', () => {
  it('are version 7 and sort by time', () => {
    const [a, b] = [uuidV7(1_700_000_000_000), uuidV7(1_800_000_000_000)];
    expect(a).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(a.startsWith('018bcfe5-6800-7')).toBe(true);
    expect(a < b).toBe(true);
  });
});
