import { describe, expect, it } from 'vitest';
import { Output, ROW_CHARS } from './output';
import { PlainText } from './plain';

const bytes = (text: string) => new TextEncoder().encode(text);
const rows = (output: Output) =>
  Array.from({ length: output.length }, (_, i) => output.row(i)).map(
    (row) => `${row?.stream}:${row?.text}`,
  );

describe('output', () => {
  it('tells the streams apart in the order of the bytes', () => {
    const output = new Output();
    output.push('stdout', bytes('out 1\nou'));
    output.push('stderr', bytes('err 1\n'));
    output.push('stdout', bytes('t 2\n\n'));
    expect(rows(output)).toEqual([
      'stdout:out 1',
      'stdout:ou',
      'stderr:err 1',
      'stdout:t 2',
      'stdout:',
    ]);
  });

  it('is the same however the bytes are cut', () => {
    const text =
      'né ✔ 日本\r\nsecond\r\nprogress 1\rprogress 2\r\n\x1b[1;31mred\x1b[0m \x1b]0;t\x07end';
    const wanted = ['stdout:né ✔ 日本', 'stdout:second', 'stdout:progress 2', 'stdout:red end'];
    for (let cut = 1; cut < 20; cut++) {
      const output = new Output();
      const all = bytes(text);
      for (let at = 0; at < all.length; at += cut) output.push('stdout', all.slice(at, at + cut));
      expect(rows(output), `cut into ${cut}`).toEqual(wanted);
    }
  });

  it('of 100 MB stays small, and drops the oldest', () => {
    const output = new Output(100_000);
    const line = bytes(`${'x'.repeat(99)}\n`.repeat(10_000));
    for (let i = 0; i < 100; i++) output.push('stdout', line);
    expect(output.length).toBeLessThan(1000);
    expect(output.length + output.dropped).toBe(1_000_000);
  });

  it('of one endless line is cut into rows', () => {
    const output = new Output(50_000);
    for (let i = 0; i < 1000; i++) output.push('stdout', bytes('y'.repeat(1000)));
    expect(output.row(0)?.text).toHaveLength(ROW_CHARS);
    expect(output.length).toBeLessThan(40);
  });

  it('shows bytes that are not text', () => {
    const output = new Output();
    output.push('stdout', Uint8Array.of(0xff, 0x00, 0x41));
    expect(rows(output)).toEqual(['stdout:\ufffd\0A']);
  });
});

describe('plain text', () => {
  it('takes out sequences, and one without an end cannot swallow the rest', () => {
    const plain = (text: string) => new PlainText().push(text);
    expect(plain('a\x1b[38;5;1mb\x1b(Bc\x1b]8;;http://x\x1b\\d\x1bMe')).toBe('abcde');
    expect(plain('a\x1b]never ends\nnext')).toBe('a\nnext');
    expect(plain('\x1b]' + 'x'.repeat(10_000)).length).toBeGreaterThan(5000);
  });
});
