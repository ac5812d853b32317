// `marconiview` before there is a connection: the cell shows the login page, and after the password the dashboard.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

const { NOTEBOOK, PASSWORD } = process.env;
const jupyter = new URL(NOTEBOOK).origin;
const isOurs = (url) => url !== '' && !url.startsWith(jupyter);

await scene({ width: 1280, height: 1000, isOurs }, async (page) => {
  await page.goto(NOTEBOOK);
  await page.locator('.jp-NotebookPanel-notebook .jp-CodeCell').first().waitFor();
  await page.getByText('Python 3 (ipykernel) | Idle').waitFor();
  await page.locator('.lm-MenuBar-item', { hasText: /^Run$/ }).click();
  await page.locator('.lm-Menu-item', { hasText: /^Run All Cells/ }).click();

  const frame = page.frameLocator('iframe[title^="hpcclient"]');
  await frame.getByLabel(/password/i).waitFor();
  assert.equal(await page.locator('.jp-Stdin').count(), 0, 'the cell asks, too');
  await page.screenshot({ path: picture('login-in-notebook') });
  await frame.getByLabel(/password/i).fill(PASSWORD);
  await frame.getByRole('button', { name: 'Continue' }).click();
  await frame.locator('main [data-tile="files"]').waitFor();
  await typeInto(frame, page.keyboard, 'echo typed-$((6 * 7))', 'typed-42');
});
