import { beforeEach, describe, expect, it } from 'vitest';
import { handOver, readFragment, TokenStore, type PageWindow } from './token';

const TOKEN = { token: 'secret', cluster: 'marconi' };

class Fake implements PageWindow {
  location = { hash: '', pathname: '/proxy/7920/', search: '?theme=dark' };
  kept = new Map<string, string>();
  denied = false;
  urls: string[] = [];
  history = {
    replaceState: (_: unknown, __: string, url: string) => {
      this.urls.push(url);
      this.location.hash = url.includes('#') ? url.slice(url.indexOf('#')) : '';
    },
  };
  storage = () => {
    if (this.denied) throw new DOMException('denied', 'SecurityError');
    return {
      getItem: (key: string) => this.kept.get(key) ?? null,
      setItem: (key: string, value: string) => void this.kept.set(key, value),
      removeItem: (key: string) => void this.kept.delete(key),
    };
  };
}

let page: Fake;
let store: TokenStore;
beforeEach(() => {
  page = new Fake();
  store = new TokenStore(page);
});

describe('the token', () => {
  it('takes the code out of the URL and leaves the rest', () => {
    page.location.hash = '#code=once&run=r1';
    expect(store.takeCode()).toBe('once');
    expect(page.urls).toEqual(['/proxy/7920/?theme=dark#run=r1']);
    expect(store.takeCode()).toBeUndefined();
  });

  it('is kept in the storage and not in the URL', () => {
    page.location.hash = '#run=r1';
    store.save(TOKEN);
    expect(page.location.hash).toBe('#run=r1');
    expect(new TokenStore(page).load()).toEqual(TOKEN);
  });

  it('is kept in the fragment where the storage is denied', () => {
    page.denied = true;
    page.location.hash = '#run=r1';
    store.save(TOKEN);
    expect(readFragment(page.location.hash)).toEqual({ ...TOKEN, run: 'r1' });
    expect(new TokenStore(page).load()).toEqual(TOKEN);
    // A reload reads it again.
    expect(new TokenStore(page).load()).toEqual(TOKEN);
  });

  it('moves from the fragment of a new window to its storage', () => {
    page.location.hash = handOver(TOKEN, 'r1');
    expect(store.load()).toEqual(TOKEN);
    expect(page.location.hash).toBe('#run=r1');
    expect(new TokenStore(page).load()).toEqual(TOKEN);
  });

  it('is forgotten everywhere when it was refused', () => {
    store.save(TOKEN);
    page.location.hash = handOver(TOKEN, undefined);
    store.forget();
    expect([page.location.hash, page.kept.size]).toEqual(['', 0]);
    page.denied = true;
    page.location.hash = handOver(TOKEN, undefined);
    store.forget();
    expect(store.load()).toBeUndefined();
  });

  it('survives a storage that holds nonsense', () => {
    page.kept.set('hpcclient.token /proxy/7920/', '{');
    expect(store.load()).toBeUndefined();
  });

  it('is another one for another path of the same origin', () => {
    store.save(TOKEN);
    page.location.pathname = '/proxy/8000/';
    expect(new TokenStore(page).load()).toBeUndefined();
  });
});
