import { describe, expect, it } from 'vitest';
import { crumbs, join, percentEncode } from './paths';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (path: Uint8Array) => new TextDecoder().decode(path);

describe('paths', () => {
  it('are encoded byte by byte', () => {
    expect(percentEncode(bytes('~/a b&c=é'))).toBe('~/a%20b%26c%3D%C3%A9');
    expect(percentEncode(Uint8Array.of(0x6e, 0xe9, 0x0a))).toBe('n%E9%0A');
  });

  it('join without a second slash', () => {
    expect(text(join(bytes('/'), bytes('tmp')))).toBe('/tmp');
    expect(text(join(bytes('/a'), bytes('b')))).toBe('/a/b');
  });

  it('are steps from the root or from home', () => {
    const steps = (path: string) =>
      crumbs(bytes(path), bytes('/home/al')).map((step) => `${step.label}=${text(step.path)}`);
    expect(steps('/')).toEqual(['/=/']);
    expect(steps('/home/alice')).toEqual(['/=/', 'home=/home', 'alice=/home/alice']);
    expect(steps('/home/al')).toEqual(['~=/home/al']);
    expect(steps('/home/al/x/y')).toEqual(['~=/home/al', 'x=/home/al/x', 'y=/home/al/x/y']);
  });
});
