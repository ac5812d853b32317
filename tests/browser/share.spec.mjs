// A console that alice shares: bob looks on, then types, and is cut when she takes it back; carol sees nothing of it.
// Three users of one node, each with a bridge, an agent and a page of their own.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

const { ALICE, BOB, CAROL, OWNER, GUEST } = process.env;
/** What was taken back is gone within this. */
const REVOKED_MS = 2_000;

// Refusals are a part of it, and the browser logs each.
const isOurs = (_, text) => !text.startsWith('Failed to load resource');

await scene({ width: 1000, height: 640, isOurs }, async (alice, context) => {
  const open = async (url) => {
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(url);
    return page;
  };
  const screen = (page) => page.locator('.pane.current .xterm-rows');
  const shows = (page, text) => screen(page).filter({ hasText: text }).waitFor();
  const type = (page, line, answer) => typeInto(page.locator('.pane.current'), page.keyboard, line, answer);
  const listShares = async (page) => {
    await page.keyboard.press('F1');
    await page.keyboard.press('g');
    await page.keyboard.press('r');
    await page.getByText('Shared', { exact: true }).click();
  };

  await alice.goto(ALICE);
  await type(alice, 'echo first-$((40 + 2))', 'first-42');

  // She shares it; who is named wrong is told.
  const dialog = alice.getByRole('dialog');
  const share = async () => {
    await alice.getByRole('button', { name: /^What to do with/ }).click();
    await alice.getByRole('menuitem', { name: 'Share…' }).click();
  };
  await share();
  await dialog.getByRole('textbox').fill(`${GUEST}, no!body`);
  await dialog.getByText('is no login name').waitFor();
  assert.ok(await dialog.getByRole('button', { name: 'Share', exact: true }).isDisabled());
  await dialog.getByRole('textbox').fill('no-such-user');
  await dialog.getByRole('button', { name: 'Share', exact: true }).click();
  await dialog.getByText('there is no user `no-such-user`').waitFor();
  await alice.screenshot({ path: picture('share-wrong') });
  await dialog.getByRole('textbox').fill(GUEST);
  await dialog.getByRole('combobox').selectOption({ label: '1 hour' });
  await dialog.getByRole('button', { name: 'Share', exact: true }).click();
  await dialog.getByText(new RegExp(`with ${GUEST} · may look · \\d+ m left`)).waitFor();
  await alice.screenshot({ path: picture('share-dialog') });
  await alice.keyboard.press('Escape');

  // Carol is no guest.
  const carol = await open(CAROL);
  await shows(carol, /[$#%>]/);
  await listShares(carol);
  await carol.getByText('Nobody shares anything with you').waitFor();
  assert.equal(await carol.getByText(OWNER).count(), 0);
  await carol.screenshot({ path: picture('share-carol') });
  await carol.close();

  // Bob looks on: he sees what she does, and types nothing.
  const bob = await open(BOB);
  await shows(bob, /[$#%>]/);
  await listShares(bob);
  await bob.getByText(new RegExp(`by ${OWNER} · you may look · \\d+ m left`)).waitFor();
  await bob.screenshot({ path: picture('share-list') });
  await bob.getByText(new RegExp(`by ${OWNER}`)).click();
  await shows(bob, 'first-42');
  await bob.getByText('view only', { exact: true }).waitFor();
  await alice.bringToFront();
  await type(alice, 'echo second-$((40 + 3))', 'second-43');
  await shows(bob, 'second-43');
  await bob.bringToFront();
  await bob.locator('.pane.current .xterm-screen').click();
  await bob.keyboard.type('never-typed');
  for (const page of [alice, bob]) await page.getByRole('button', { name: '2 viewing' }).waitFor();
  await bob.getByRole('button', { name: '2 viewing' }).click();
  await bob.getByText(`${GUEST}, looks on`).waitFor();
  assert.ok(await bob.locator('.who').getByText(OWNER, { exact: true }).isVisible());
  await bob.screenshot({ path: picture('share-view') });
  await bob.keyboard.press('Escape');

  // She lets him type, and he opens it once more.
  await alice.bringToFront();
  await share();
  await dialog.getByRole('textbox').fill(GUEST);
  await dialog.getByText('May type').click();
  await dialog.getByText('acts as you').waitFor();
  await dialog.getByRole('button', { name: 'Share', exact: true }).click();
  await dialog.getByText(`with ${GUEST} · may type`).waitFor();
  await alice.screenshot({ path: picture('share-drive') });
  await alice.keyboard.press('Escape');
  await bob.bringToFront();
  await listShares(bob);
  await bob.getByText(new RegExp(`by ${OWNER} · you may type`)).click();
  await bob.getByText('view only', { exact: true }).waitFor({ state: 'hidden' });
  await shows(bob, 'second-43');
  await type(bob, 'echo third-$((40 + 4))', 'third-44');
  await shows(alice, 'third-44');
  assert.doesNotMatch(await screen(alice).innerText(), /never-typed/);
  for (const page of [alice, bob]) await page.getByRole('button', { name: '2 viewing' }).waitFor();
  await bob.screenshot({ path: picture('share-typed') });

  // She takes both back: he is cut at once, and told.
  await alice.bringToFront();
  await share();
  await alice.screenshot({ path: picture('share-both') });
  const unshare = dialog.getByRole('button', { name: /^Take back/ });
  assert.equal(await unshare.count(), 2);
  await unshare.filter({ hasText: 'Unshare' }).first().click();
  await unshare.nth(1).waitFor({ state: 'detached' });
  await unshare.click();
  const cut = bob.locator('.pane.current').getByText(`[${OWNER} shares nothing on this node`);
  await cut.waitFor({ timeout: REVOKED_MS });
  await dialog.getByText('Shared now').waitFor({ state: 'detached' });
  await alice.keyboard.press('Escape');
  await bob.bringToFront();
  await bob.getByRole('button', { name: '2 viewing' }).waitFor({ state: 'detached' });
  await bob.screenshot({ path: picture('share-cut') });
  await alice.bringToFront();
  await type(alice, 'echo fourth-$((40 + 5))', 'fourth-45');
  await alice.getByRole('button', { name: '2 viewing' }).waitFor({ state: 'detached' });
  assert.doesNotMatch(await screen(bob).innerText(), /fourth-45/);
  await bob.bringToFront();
  await listShares(bob);
  await bob.getByText('Nobody shares anything with you').waitFor();

  // Shared once more, the tab that was cut lives again.
  await alice.bringToFront();
  await share();
  await dialog.getByRole('textbox').fill(GUEST);
  await dialog.getByText('May type').click();
  await dialog.getByRole('button', { name: 'Share', exact: true }).click();
  await dialog.getByText(`with ${GUEST} · may type`).waitFor();
  await alice.keyboard.press('Escape');
  await bob.bringToFront();
  await listShares(bob);
  await bob.getByText(new RegExp(`by ${OWNER} · you may type`)).click();
  await shows(bob, 'fourth-45');
  await type(bob, 'echo fifth-$((40 + 6))', 'fifth-46');
  await shows(alice, 'fifth-46');
});
