// Runs and consoles by keyboard and mouse: filter, run again, copy, ask before deleting; tabs that close and come back;
// looking without typing; a replay. What needs a second user of the cluster is in `share.spec.mjs`.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

await scene({ width: 900, height: 600 }, async (page, context) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);

  const press = (key) => page.keyboard.press(key);
  const screen = page.locator('.pane.current .xterm-rows');
  await page.goto(process.env.PAGE);
  await typeInto(page, page.keyboard, 'echo first-$((40 + 2))', 'first-42');

  // Runs: the list, narrowed; the run again; its code; a question before it is gone.
  await press('F1');
  await press('g');
  await press('r');
  const rows = page.locator('[data-tile="runs"] [role="option"]:visible').filter({ hasNot: page.locator('option') });
  await rows.filter({ hasText: 'residual' }).first().waitFor();
  await page.getByRole('listbox', { name: /^Runs/ }).focus();
  await press('/');
  await page.keyboard.type('RESIDUAL');
  await page.getByRole('listbox', { name: 'Runs that match' }).waitFor();
  assert.deepEqual((await rows.allInnerTexts()).filter((text) => !/residual/.test(text)), []);
  const before = await rows.count();
  await page.getByRole('combobox', { name: 'Order' }).selectOption('exit');
  await rows.first().click();
  await page.getByText('step 3000 residual').waitFor();
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.getByText('step 1 residual').waitFor();
  await page.getByRole('button', { name: 'End', exact: true }).click();
  await page.getByText('step 3000 residual').waitFor();
  await page.getByRole('listbox', { name: 'Runs that match' }).focus();
  await press('Shift+C');
  await page.getByText(/^Copied hpcrpc/).waitFor();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^hpcrpc\.runs\['[0-9a-f-]{36}'\]\.attach\(\)$/);
  await press('Shift+R');
  await rows.nth(before).waitFor();
  assert.equal(await rows.count(), before + 1, 'it did not run again');
  await page.getByRole('article', { name: 'Run' }).getByText('exit 3', { exact: true }).waitFor();
  await page.screenshot({ path: picture('work-runs') });
  await page.getByRole('listbox', { name: 'Runs that match' }).focus();
  await press('Delete');
  const dialog = page.getByRole('dialog');
  await dialog.getByText('removed for good').waitFor();
  await press('Escape');
  assert.equal(await rows.count(), before + 1, 'it was deleted without an answer');

  // A menu by keyboard.
  await page.getByRole('button', { name: 'Export' }).focus();
  await press('Enter');
  await page.getByRole('menuitem', { name: /stdout, as it is/ }).waitFor();
  await press('ArrowDown');
  assert.match(await page.evaluate(() => document.activeElement.innerText), /as plain text/);
  await press('Escape');
  await page.getByRole('menuitem', { name: /stdout, as it is/ }).waitFor({ state: 'hidden' });

  // Consoles: another one; its tab closes and it comes back as it was.
  await page.getByRole('button', { name: 'CLI' }).click();
  await page.getByRole('button', { name: 'New console' }).click();
  await page.getByRole('tab').nth(1).waitFor();
  await screen.filter({ hasText: /[$#%>]/ }).waitFor();
  await typeInto(page, page.keyboard, 'echo second-$((40 + 3))', 'second-43');
  await page.getByRole('button', { name: 'Close this console' }).click();
  await page.getByRole('button', { name: 'Keep it running' }).click();
  await screen.filter({ hasText: 'first-42' }).waitFor();
  assert.equal(await page.getByRole('tab').count(), 1);
  await page.getByRole('button', { name: /^All consoles, 1 without a tab/ }).click();
  await dialog.getByRole('button', { name: /^Attach/ }).click();
  await screen.filter({ hasText: 'second-43' }).waitFor();

  // Looking only: nothing is typed, and it can be taken back.
  const menu = page.getByRole('button', { name: /^What to do with/ });
  await menu.click();
  await page.getByRole('menuitemcheckbox', { name: 'View only' }).click();
  await page.getByText('view only', { exact: true }).waitFor();
  await screen.filter({ hasText: 'second-43' }).waitFor();
  await page.locator('.pane.current .xterm-screen').click();
  await page.keyboard.type('never-typed');
  await menu.click();
  await page.getByRole('menuitemcheckbox', { name: 'View only' }).click();
  await typeInto(page, page.keyboard, 'echo third-$((40 + 4))', 'third-44');
  assert.doesNotMatch(await screen.innerText(), /never-typed/);

  // The replay: a moment is the screen of that moment.
  await menu.click();
  await page.getByRole('menuitem', { name: 'Replay…' }).click();
  const moment = dialog.getByRole('slider', { name: 'Moment' });
  await moment.focus();
  const replayed = dialog.locator('.xterm-rows');
  await press('End');
  await replayed.filter({ hasText: 'third-44' }).waitFor();
  await press('Home');
  await replayed.filter({ hasNotText: 'second-43' }).waitFor();
  await dialog.getByRole('combobox', { name: 'Speed' }).selectOption({ label: '16×' });
  await dialog.getByRole('button', { name: 'Play' }).click();
  await replayed.filter({ hasText: 'second-43' }).waitFor();
  await replayed.filter({ hasText: 'third-44' }).waitFor();
  await page.screenshot({ path: picture('work-replay') });
  await press('Escape');
  await dialog.waitFor({ state: 'hidden' });
});
