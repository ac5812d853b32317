// Times keys in a console that is flooded: from the key to what it changes on the screen, in Chromium.
//
// `cargo xtask bench` runs it on a login node of its own, as `node --experimental-websocket`. It speaks to the browser
// itself: what drives the end-to-end tests has every message of the page sent to it, which is not what a user has.
// Prints; asserts nothing of times.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const KEYS = 40;
const INTERRUPTS = 5;
const MEGA = 1_000_000;

/** Fills the screen with the last key, as fast as the terminal takes it. */
const FLOOD = `import os, select, tty
tty.setcbreak(0)
key = b"x"
while True:
    if select.select([0], [], [], 0)[0]: key = os.read(0, 1)
    os.write(1, (key * 79 + b"\\n") * 100)`;

/** In the page: when a pattern stands on the screen, counted from the next key. */
const WATCH = `
  window.screenText = () => [...document.querySelectorAll('.xterm-rows')]
    .find((rows) => rows.offsetParent !== null)?.textContent ?? '';
  window.appears = (pattern) => new Promise((resolve, reject) => {
    const wanted = new RegExp(pattern);
    let since, painted, end = performance.now() + 30000;
    const pressed = (event) => {
      if (event.key === 'Control') return;
      since ??= event.timeStamp;
      removeEventListener('keydown', pressed, true);
      requestAnimationFrame(() => setTimeout(() => { painted = performance.now() - since; }));
    };
    addEventListener('keydown', pressed, true);
    const look = () => {
      if (since !== undefined && wanted.test(window.screenText())) {
        const seen = performance.now() - since;
        return setTimeout(() => resolve({ seen, painted: painted ?? seen }));
      }
      if (performance.now() > end) return reject(new Error('never on the screen: ' + pattern));
      requestAnimationFrame(look);
    };
    look();
  });`;

class Browser {
  #socket;
  #number = 0;
  #waiting = new Map();
  #session;

  static async start(folder) {
    const program = spawn(
      '/usr/bin/chromium',
      [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--window-size=900,600',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--remote-debugging-port=0',
        `--user-data-dir=${folder}`,
        'about:blank',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const address = await new Promise((resolve, reject) => {
      let text = '';
      program.on('exit', () => reject(new Error(`the browser ended: ${text}`)));
      program.stderr.on('data', (data) => {
        text += data;
        const found = /DevTools listening on (\S+)/.exec(text);
        if (found) resolve(found[1]);
      });
    });
    const browser = new Browser();
    browser.program = program;
    browser.#socket = new WebSocket(address);
    await new Promise((resolve, reject) => {
      browser.#socket.onopen = resolve;
      browser.#socket.onerror = reject;
    });
    browser.#socket.onmessage = ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      const waiting = browser.#waiting.get(id);
      browser.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result);
    };
    const { targetInfos } = await browser.say('Target.getTargets');
    const { targetId } = targetInfos.find((target) => target.type === 'page');
    const attached = await browser.say('Target.attachToTarget', {
      targetId,
      flatten: true,
    });
    browser.#session = attached.sessionId;
    return browser;
  }

  async end() {
    const ended = new Promise((resolve) => this.program.on('exit', resolve));
    await this.say('Browser.close');
    await ended;
  }

  say(method, params = {}) {
    const id = ++this.#number;
    this.#socket.send(
      JSON.stringify({
        id,
        method,
        params,
        sessionId: method.startsWith('Browser.') ? undefined : this.#session,
      }),
    );
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  async evaluate(expression) {
    const said = await this.say('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (said.exceptionDetails) throw new Error(said.exceptionDetails.exception.description);
    return said.result.value;
  }

  async until(expression) {
    const end = Date.now() + 60_000;
    while (!(await this.evaluate(expression))) {
      if (Date.now() > end) throw new Error(`never true: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async press(key, modifiers = 0) {
    const code = key.toUpperCase().charCodeAt(0);
    const text = modifiers === 0 ? key : undefined;
    const event = { key, modifiers, windowsVirtualKeyCode: code, text };
    await this.say('Input.dispatchKeyEvent', {
      ...event,
      type: text ? 'keyDown' : 'rawKeyDown',
    });
    await this.say('Input.dispatchKeyEvent', {
      ...event,
      type: 'keyUp',
      text: undefined,
    });
  }

  async type(line) {
    await this.say('Input.insertText', { text: line });
    await this.say('Input.dispatchKeyEvent', {
      type: 'keyDown',
      key: 'Enter',
      windowsVirtualKeyCode: 13,
      text: '\r',
    });
    await this.say('Input.dispatchKeyEvent', {
      type: 'keyUp',
      key: 'Enter',
      windowsVirtualKeyCode: 13,
    });
  }

  /** Presses a key and returns how long it took until what it does was on the screen. */
  async time(key, modifiers, pattern) {
    await this.evaluate(`window.result = window.appears(${JSON.stringify(pattern)}); 0`);
    await this.press(key, modifiers);
    return this.evaluate('window.result');
  }
}

const at = (all, part) => {
  const sorted = all.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(0);
};
const times = (all) => `p50 ${at(all, 0.5)} ms, p95 ${at(all, 0.95)} ms`;
const CTRL = 2;

async function main(folder) {
  const browser = await Browser.start(path.join(folder, 'profile'));
  try {
    const opened = execFileSync(process.env.HPCCLIENT_BIN, ['open', '--print'], {
      encoding: 'utf8',
    });
    await browser.say('Page.navigate', {
      url: opened.split(/\s+/).find((word) => word.startsWith('http://')),
    });
    await browser.until(
      `/[$#] *$/.test([...document.querySelectorAll('.xterm-rows')].map((e) => e.textContent).join(''))`,
    );
    await browser.evaluate(WATCH + '0');
    const focus = `document.querySelector('.xterm-helper-textarea').focus()`;
    await browser.evaluate(focus);
    const program = path.join(folder, 'flood.py');
    fs.writeFileSync(program, FLOOD);
    await browser.type(`clear; python3 ${program}`);
    await browser.until(`window.screenText().includes('x'.repeat(40))`);
    const seen = [],
      painted = [];
    for (let number = 0; number < KEYS; number++) {
      const key = String.fromCharCode('A'.charCodeAt(0) + (number % 23));
      const took = await browser.time(key, 0, `${key}{20}`);
      seen.push(took.seen);
      painted.push(took.painted);
      await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 100));
    }
    console.log(`a key in a flooded console, to the page's next frame: ${times(painted)}`);
    console.log(
      `a key in a flooded console, to what it changes on the screen: ${times(seen)} (wanted 100 ms)`,
    );
    const first = await browser.time('c', CTRL, '[$#] *$');
    console.log(`Ctrl-C in that flood, to the prompt: ${first.seen.toFixed(0)} ms (wanted 300 ms)`);
    const file = path.join(folder, 'hundred');
    const line = 'abcdefghijklmnopqrstuvwxyz '.repeat(3).slice(0, 79) + '\n';
    fs.writeFileSync(file, line.repeat((100 * MEGA) / line.length));
    const stopped = [];
    for (let number = 0; number < INTERRUPTS; number++) {
      await browser.type(`clear; while :; do cat ${file}; done`);
      await browser.until(`window.screenText().includes('xyz abc')`);
      await new Promise((resolve) => setTimeout(resolve, 500));
      stopped.push((await browser.time('c', CTRL, '[$#] *$')).seen);
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
    console.log(`Ctrl-C during cat of 100 MB, to the prompt: ${times(stopped)} (wanted 300 ms)`);
    const since = Date.now();
    await browser.type(`clear; cat ${file}; echo do""ne`);
    await browser.until(`window.screenText().includes('done')`);
    console.log(`cat of 100 MB, to its end on the screen: ${Date.now() - since} ms`);
  } finally {
    await browser.end();
  }
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'flood-'));
try {
  await main(folder);
} finally {
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
