import { describe, expect, it } from 'vitest';
import { commandLine, downloadName, fromBytes, nameOf, visible, visibleLine } from './visible';

describe('names', () => {
  it('show what would hide, reorder or end them', () => {
    expect(visible('plain näme 日本.txt')).toBe('plain näme 日本.txt');
    expect(visible('a\nb\x1b[31m\x7f')).toBe('a‹0A›b‹1B›[31m‹7F›');
    expect(visible('invoice\u202Efdp.exe')).toBe('invoice‹U+202E›fdp.exe');
    expect(visible('a\u200Bb\uFEFF\u00AD')).toBe('a‹U+200B›b‹U+FEFF›‹U+00AD›');
    expect(visible('x\u{E0041}')).toBe('x‹U+E0041›');
    expect(visible('<img src=x>')).toBe('<img src=x>');
  });

  it('that are not UTF-8 show each odd byte', () => {
    expect(nameOf({ base64: 'buk=' })).toBe('n‹E9›');
    expect(fromBytes(Uint8Array.of(0xc3, 0xa9, 0xff, 0x0a, 0xe2, 0x82))).toBe('é‹FF›‹0A›‹E2›‹82›');
    expect(fromBytes(Uint8Array.of(0xed, 0xa0, 0x80))).toBe('‹ED›‹A0›‹80›');
  });

  it('are tame as files on the user’s machine', () => {
    expect(downloadName('../../etc/passwd')).toBe('__.._etc_passwd');
    expect(downloadName('a\u202Egnp.exe')).toBe('a‹U+202E›gnp.exe');
    expect(downloadName('.bashrc')).toBe('_bashrc');
    expect(downloadName('')).toBe('download');
  });
});

describe('commands', () => {
  it('are one line', () => {
    expect(commandLine({ shell: 'cd /tmp\nls' })).toBe('cd /tmp ↵ ls');
    expect(commandLine({ argv: ['printf', '%s', "a b;$c'"] })).toBe("printf %s 'a b;$c'\\'''");
    expect(commandLine('loginShell')).toBe('login shell');
  });
});

describe('output', () => {
  it('keeps tabs and emoji, and shows controls', () => {
    expect(visibleLine('a\tb ✔\uFE0F\x07\u202E')).toBe('a\tb ✔\uFE0F‹07›‹U+202E›');
  });
});
