import { beforeEach, describe, expect, it } from 'vitest';
import { Failure } from '../lib/api';
import type { ClusterSummary, ConnectEvent } from '../lib/bridge';
import type { PageToken } from '../lib/wire';
import type { LoginApi } from './api';
import { lines } from './lines';
import { Login, type Around } from './login.svelte';

const CLUSTERS: ClusterSummary[] = [
  { name: 'marconi', destination: 'alice@login.marconi:22', state: 'disconnected' },
  { name: 'galileo', destination: 'login.galileo', state: 'failed' },
];
const connected = (more = {}): ConnectEvent => ({
  type: 'connected',
  cluster: { name: 'marconi', destination: 'd', state: 'connected', ...more },
});
const ask: ConnectEvent = {
  type: 'prompt',
  id: 'p1',
  kind: 'password',
  text: 'Password:',
  echo: false,
};

/** A bridge whose login goes as the test says: events are pushed, the stream ends with `null`. */
class Bridge implements Around, LoginApi {
  code: string | undefined = 'once';
  token: PageToken | undefined;
  cluster = 'marconi';
  refused: Failure | undefined;
  list = CLUSTERS;
  asked: string[] = [];
  answers: [string, string | null][] = [];
  left: string[] = [];
  paused = 0;
  signal: AbortSignal | undefined;
  #events: (ConnectEvent | null)[] = [];
  #wake = () => {};

  /** As the real one: the code is in the URL once. */
  takeCode = () => {
    const { code } = this;
    this.code = undefined;
    return code;
  };
  kept = () => this.token;
  keep = (token: PageToken) => void (this.token = token);
  exchange = async () => {
    if (this.refused) throw this.refused;
    return { token: 't', cluster: this.cluster };
  };
  api = () => this;
  leave = (url: string) => void this.left.push(url);
  pause = async () => void this.paused++;
  clusters = async () => this.list;
  answer = async (id: string, answer: string | null) => void this.answers.push([id, answer]);
  page = async (cluster: string) => `http://localhost:1/#code=${cluster}`;

  async *connect(cluster: string, signal: AbortSignal) {
    this.asked.push(cluster);
    this.signal = signal;
    this.#events = [];
    for (;;) {
      while (this.#events.length === 0) await new Promise<void>((done) => (this.#wake = done));
      const event = this.#events.shift();
      if (!event) return;
      yield event;
    }
  }

  /** Lets events happen, and waits until the page has seen them. */
  async tell(...events: (ConnectEvent | null)[]): Promise<void> {
    this.#events.push(...events);
    this.#wake();
    await settled();
  }
}

/** Lets everything run that waits for nothing outside. */
const settled = () => new Promise((done) => setTimeout(done));

let bridge: Bridge;
let login: Login;
beforeEach(() => {
  bridge = new Bridge();
  login = new Login(bridge);
});
const start = async () => {
  void login.start();
  await settled();
};

describe('the login page', () => {
  it('connects the cluster of its code at once, asks, and goes on to the page', async () => {
    await start();
    expect([login.stage, bridge.asked]).toEqual(['busy', ['marconi']]);
    await bridge.tell({ type: 'progress', message: 'logging in' }, ask);
    expect(login.steps).toEqual(['logging in']);
    expect(login.question?.text).toBe('Password:');
    await login.answer('secret');
    expect(bridge.answers).toEqual([['p1', 'secret']]);
    expect(login.question).toBeUndefined();
    await bridge.tell(connected());
    expect([login.stage, bridge.paused]).toEqual(['done', 0]);
    expect(bridge.left).toEqual(['http://localhost:1/#code=marconi']);
  });

  it('asks which cluster where the code names none', async () => {
    bridge.cluster = '';
    await start();
    expect([login.stage, login.target, bridge.asked]).toEqual(['form', '', []]);
    login.choose('marconi');
    expect([login.user, login.target]).toEqual(['alice', 'marconi']);
    login.user = 'bob';
    expect(login.target).toBe('bob@marconi');
    login.choose('eve@elsewhere:2222');
    expect(login.target).toBe('eve@elsewhere:2222');
    login.choose('  galileo ');
    void login.connect();
    await settled();
    expect(bridge.asked).toEqual(['galileo']);
  });

  it('connects nothing by itself when it is loaded again', async () => {
    bridge.code = undefined;
    bridge.token = { token: 't', cluster: 'marconi' };
    await start();
    expect([login.stage, login.target, bridge.asked]).toEqual(['form', 'marconi', []]);
  });

  it('shows why it failed and tries again', async () => {
    await start();
    const error = { code: 'authFailed', message: 'refused', hints: ['check the key'] } as const;
    await bridge.tell({ type: 'failed', error: { ...error, hints: [...error.hints] } });
    expect([login.stage, login.error?.message]).toEqual(['failed', 'refused']);
    void login.connect();
    await settled();
    expect([login.stage, login.error, bridge.asked.length]).toEqual(['busy', undefined, 2]);
    await bridge.tell(null);
    expect([login.stage, login.error?.code]).toEqual(['failed', 'unavailable']);
  });

  it('starts again where not even the clusters could be read', async () => {
    bridge.clusters = async () => {
      throw new Failure({ code: 'badRequest', message: 'config.toml' }, 400);
    };
    await start();
    expect([login.stage, login.error?.message]).toEqual(['failed', 'config.toml']);
    bridge.clusters = async () => CLUSTERS;
    bridge.code = undefined;
    await login.connect();
    expect([login.stage, login.target, bridge.asked]).toEqual(['form', 'marconi', []]);
  });

  it('tries again with the code that a busy bridge did not take', async () => {
    bridge.refused = new Failure({ code: 'unavailable', message: 'busy' }, 503);
    await start();
    expect(login.stage).toBe('failed');
    bridge.refused = undefined;
    void login.connect();
    await settled();
    expect([login.stage, bridge.asked]).toEqual(['busy', ['marconi']]);
  });

  it('leaves the login when it is cancelled', async () => {
    await start();
    await bridge.tell(ask);
    login.cancel();
    expect([login.stage, login.question, bridge.signal?.aborted]).toEqual([
      'form',
      undefined,
      true,
    ]);
    await bridge.tell(connected());
    expect([login.stage, bridge.left]).toEqual(['form', []]);
  });

  it('takes no notice of an answer that came too late, and of no other failure silently', async () => {
    await start();
    await bridge.tell(ask);
    bridge.answer = async () => {
      throw new Failure({ code: 'notFound', message: 'gone' }, 404);
    };
    await login.answer('x');
    expect(login.stage).toBe('busy');
    await bridge.tell(ask);
    bridge.answer = async () => {
      throw new Failure({ code: 'offline', message: 'no bridge' });
    };
    await login.answer('x');
    expect([login.stage, login.error?.code]).toEqual(['failed', 'offline']);
  });

  it('says for a moment how long the certificate is valid', async () => {
    await start();
    const validUntilMs = Date.now() + (3 * 60 + 10.5) * 60_000;
    const certificate = { keyId: 'a', source: 'ssh-agent', validUntilMs };
    await bridge.tell(connected({ login: { certificate }, notices: ['on another node'] }));
    expect(login.notices).toEqual(['on another node', 'certificate valid 3 h 10 m']);
    expect([bridge.paused, bridge.left.length]).toEqual([1, 1]);
  });

  it('ends calmly when its code was used', async () => {
    bridge.refused = new Failure({ code: 'unauthorized', message: 'used' }, 401);
    await start();
    expect(login.stage).toBe('expired');
    bridge = new Bridge();
    bridge.code = undefined;
    login = new Login(bridge);
    await start();
    expect(login.stage).toBe('expired');
  });
});

describe('the lines of a stream', () => {
  it('are whole, whatever the pieces are', async () => {
    const bytes = new TextEncoder().encode('{"a":"é"}\n\n{"b":1}\nlast');
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const found: string[] = [];
    for await (const line of lines(stream)) found.push(line);
    expect(found).toEqual(['{"a":"é"}', '{"b":1}', 'last']);
  });
});
