// The login page: by keyboard from the choice of a cluster to its dashboard; in a frame; and back after a loss.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { picture, scene } from './chromium.mjs';

const { ACCOUNT, PASSWORD, HPCCLIENT_BIN, HPCCLIENT_STATE_DIR } = process.env;

/** A new address of the login page, as a face asks for it. */
async function loginPage(wish) {
  const { url, token } = JSON.parse(readFileSync(`${HPCCLIENT_STATE_DIR}/bridge.json`, 'utf8'));
  const { origin } = new URL(url);
  const answer = await fetch(`${origin}/v1/login-page`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, origin, 'content-type': 'application/json' },
    body: JSON.stringify(wish),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).url;
}

/** What a user of a screen reader and of a small window needs. */
async function assertSound(page) {
  const faults = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const found = scrollWidth > clientWidth ? ['it scrolls sideways'] : [];
    if (document.querySelectorAll('h1').length !== 1) found.push('it has not one heading');
    for (const field of document.querySelectorAll('input'))
      if (!field.labels.length) found.push(`a field has no label: ${field.outerHTML}`);
    return found;
  });
  assert.deepEqual(faults, []);
}

const isLost = (text) => /\/v1\/(status|live|runs|files)/.test(text);

// What fails while there is no connection is expected; anything else that the page reports is not.
await scene({ width: 900, height: 600, isOurs: (url, text) => !isLost(url + text) }, async (page) => {
  const press = (key) => page.keyboard.press(key);
  const shoot = async (name) => {
    for (const shade of ['dark', 'light']) {
      await page.evaluate((hpcTheme) => postMessage({ hpcTheme }), shade);
      await page.locator(`html[data-theme="${shade}"]`).waitFor();
      await page.screenshot({ path: picture(`login-${name}-${shade}`) });
    }
    await assertSound(page);
  };

  await page.goto(await loginPage({ theme: 'dark' }));
  await page.locator('html[data-theme="dark"]').waitFor();
  const cluster = page.getByRole('combobox', { name: 'Cluster' });
  await cluster.waitFor();
  assert.ok(!page.url().includes('code='), `the code is still in ${page.url()}`);
  const login = new URL(page.url()).origin;
  assert.equal(await page.getByRole('button', { name: 'Connect' }).isDisabled(), true);
  await press('Tab');
  await page.keyboard.type('test');
  await page.getByRole('paragraph').filter({ hasText: 'not connected' }).waitFor();
  await press('Tab');
  assert.equal(await page.getByRole('textbox', { name: /^User/ }).inputValue(), ACCOUNT);
  await shoot('choice');
  await page.setViewportSize({ width: 480, height: 600 });
  await shoot('narrow');
  await page.setViewportSize({ width: 900, height: 600 });
  await press('Enter');

  // A first contact: nothing is trusted by a key pressed too often.
  const no = page.getByRole('button', { name: 'No' });
  await no.waitFor();
  await page.getByRole('group', { name: /fingerprint SHA256:/ }).waitFor();
  assert.ok(await no.evaluate((button) => button === document.activeElement));
  await shoot('host-key');
  await press('Shift+Tab');
  await press('Enter');

  const password = page.getByLabel(/password/i);
  await password.waitFor();
  assert.deepEqual(
    await password.evaluate(({ type, autocomplete }) => [type, autocomplete]),
    ['password', 'current-password'],
  );
  await shoot('password');
  await page.keyboard.type('wrong');
  await press('Enter');
  await page.getByLabel(/refused.*password/is).waitFor();
  await shoot('refused');
  await page.keyboard.type(PASSWORD);
  await press('Enter');

  await page.locator('main [data-tile="files"]').waitFor();
  assert.notEqual(new URL(page.url()).origin, login);
  assert.ok(!page.url().includes('code='), `the code is still in ${page.url()}`);
  await page.locator('[data-link="up"]').waitFor();
  await page.locator('[data-link="up"]').click();
  await page.getByText('a round trip takes').waitFor();
  await page.screenshot({ path: picture('login-connection') });
  await press('Escape');
  const dashboard = new URL(page.url()).origin;

  // Disconnected elsewhere: the page says so, what was there stays, and a click leads to the login and back.
  execFileSync(HPCCLIENT_BIN, ['disconnect', 'test']);
  const again = page.getByRole('button', { name: 'Log in' });
  await again.waitFor();
  await page.getByRole('button', { name: 'Connection: login needed' }).waitFor();
  assert.ok(await page.locator('main [data-tile="files"]').isVisible());
  await page.screenshot({ path: picture('login-needed'), animations: 'disabled' });
  await again.click();
  await page.getByLabel(/password/i).fill(PASSWORD);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('[data-link="up"]').waitFor();
  assert.equal(new URL(page.url()).origin, dashboard);

  // In a frame of a notebook of this machine; it is connected, so the page goes on at once.
  const html = `<!doctype html><title>notebook</title><iframe width="900" height="560"
    sandbox="allow-scripts allow-same-origin allow-forms" src="${await loginPage({ cluster: 'test' })}"></iframe>`;
  const notebook = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end(html);
  });
  await new Promise((ready) => notebook.listen(0, '127.0.0.1', ready));
  await page.goto(`http://localhost:${notebook.address().port}/`);
  await page.frameLocator('iframe').locator('[data-link="up"]').waitFor();
  notebook.close();

  // Where it cannot work it says why, and lets the user try again or elsewhere.
  await page.goto(await loginPage({ cluster: 'nobody@127.0.0.1:1' }));
  await page.getByRole('alert').getByText(/127\.0\.0\.1/).first().waitFor();
  await page.getByRole('button', { name: 'Try again' }).waitFor();
  await shoot('failed');
  await page.getByRole('button', { name: 'Another cluster' }).click();
  assert.equal(await cluster.inputValue(), 'nobody@127.0.0.1:1');
});
