// The GUI in a window of its own: terminal, runs and files; a reload keeps the terminal; both colour schemes.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

await scene({ width: 1280, height: 800 }, async (page) => {
  await page.goto(process.env.PAGE);
  await page.locator('main').first().waitFor();
  await typeInto(page, page.keyboard, 'cd /tmp; echo kept-$((40 + 2))', 'kept-42');
  await page.getByText('echo one line').first().waitFor();
  assert.ok(!page.url().includes('code='), `the code is still in ${page.url()}`);
  await page.screenshot({ path: picture('gui-light') });

  await page.reload();
  await page.locator('.xterm-rows:visible').first().filter({ hasText: 'kept-42' }).waitFor();
  await typeInto(page, page.keyboard, 'pwd; stty size', '/tmp');

  await page.getByRole('button', { name: 'Dark colours' }).click();
  await page.locator('html[data-theme="dark"]').waitFor();
  await page.screenshot({ path: picture('gui-dark') });
  await page.setViewportSize({ width: 900, height: 600 });
  const overflow = await page.evaluate(() => {
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = document.documentElement;
    return [scrollWidth - clientWidth, scrollHeight - clientHeight];
  });
  assert.deepEqual(overflow, [0, 0], 'at 900 × 600 the page scrolls');
  await page.screenshot({ path: picture('gui-small') });
});
