// What must hold for every source file of the page.
import { describe, expect, it } from 'vitest';

const sources = import.meta.glob<string>(
  ['./**/*.{ts,svelte}', '!./**/*.test.ts', '!./lib/api.gen.ts'],
  { query: '?raw', import: 'default', eager: true },
);
const files = Object.entries(sources);
const withMatch = (pattern: RegExp) =>
  files.filter(([, text]) => pattern.test(text)).map(([name]) => name);

describe('the source', () => {
  it('never makes markup or code out of data', () => {
    expect(files.length).toBeGreaterThan(30);
    expect(
      withMatch(
        /\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|createContextualFragment/,
      ),
    ).toEqual([]);
  });

  it('asks the server in one place, and has one socket', () => {
    expect(withMatch(/\bfetch\(|XMLHttpRequest|EventSource|sendBeacon/)).toEqual(['./lib/api.ts']);
    expect(withMatch(/new WebSocket/)).toEqual(['./lib/live.ts']);
  });

  it('has no cookie and no absolute path of a server', () => {
    expect(withMatch(/document\.cookie|['"`]\/v1\//)).toEqual([]);
  });

  it('says at the top of each file what it is', () => {
    const without = files.filter(([, text]) => !/^(\/\/|<!--) \S/.test(text)).map(([name]) => name);
    expect(without).toEqual([]);
  });

  it('takes the focus only where the user asked for it', () => {
    expect(withMatch(/autofocus|\.focus\(/).toSorted()).toEqual([
      './login/Prompt.svelte',
      './tiles/Cli.svelte',
      './tiles/ConsoleTabs.svelte',
      './tiles/Files.svelte',
      './tiles/FindBar.svelte',
      './tiles/runkeys.ts',
      './tiles/terminal.ts',
      './ui/Menu.svelte',
    ]);
  });

  it('stays in files that can be read at once', () => {
    const long = files.filter(([, text]) => text.split('\n').length > 250).map(([name]) => name);
    expect(long).toEqual([]);
  });
});
