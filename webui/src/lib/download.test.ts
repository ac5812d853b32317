import { describe, expect, it } from 'vitest';
import { Failure } from './api';
import { download } from './download';

const content = 'abcdefghij'.repeat(1000);
const pause = () => Promise.resolve();

/** A body that brings `length` characters from an offset and is then cut. */
function cutBody(from: number, length: number): ReadableStream<Uint8Array> {
  let sent = false;
  return new ReadableStream({
    pull(controller) {
      if (sent) return controller.error(new TypeError('network error'));
      sent = true;
      controller.enqueue(new TextEncoder().encode(content.slice(from, from + length)));
    },
  });
}

describe('a download', () => {
  it('goes on at the offset where it was cut', async () => {
    const asked: number[] = [];
    const seen: number[] = [];
    const blob = await download({
      open: (from) => {
        asked.push(from);
        return Promise.resolve(
          from < 9000
            ? new Response(cutBody(from, 4000), { status: 206 })
            : new Response(content.slice(from), { status: 206 }),
        );
      },
      signal: new AbortController().signal,
      progress: (done) => seen.push(done),
      pause,
    });
    expect(await blob.text()).toBe(content);
    expect(asked).toEqual([0, 4000, 8000, 12000 > content.length ? content.length : 12000]);
    expect(seen.at(-1)).toBe(content.length);
  });

  it('refuses to join two versions of a file', async () => {
    let version = 0;
    const result = download({
      open: (from) =>
        Promise.resolve(
          new Response(cutBody(from, 10), { status: 206, headers: { etag: `"${++version}"` } }),
        ),
      signal: new AbortController().signal,
      progress: () => {},
      pause,
    });
    await expect(result).rejects.toThrow('changed');
  });

  it('gives up at once on a failure that stays', async () => {
    let asked = 0;
    const result = download({
      open: () => {
        asked++;
        return Promise.reject(new Failure({ code: 'notFound', message: 'no such file' }, 404));
      },
      signal: new AbortController().signal,
      progress: () => {},
      pause,
    });
    await expect(result).rejects.toThrow('no such file');
    expect(asked).toBe(1);
  });
});
