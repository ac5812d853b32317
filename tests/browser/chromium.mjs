// Starts Debian's Chromium with an empty profile and watches for what a user would never see: errors in the page.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Where pictures go. */
export const picture = (name) => `${process.env.ARTIFACTS}/${name}.png`;

/**
 * Runs a scene in a fresh browser; fails when the scene does or when a page reported an error.
 * `isOurs(url, text)` says whose console errors count: JupyterLab's own are not ours to judge.
 */
export async function scene({ width, height, isOurs = () => true, colorScheme = 'light' }, play) {
  const context = await chromium.launchPersistentContext(process.env.PROFILE, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: ARGS,
    viewport: { width, height },
    colorScheme,
  });
  const errors = [];
  const watch = (page) => {
    page.on('pageerror', (error) => errors.push(`page error: ${error.stack ?? error}`));
    page.on('console', (message) => {
      const { url } = message.location();
      if (message.type() === 'error' && isOurs(url, message.text())) errors.push(`console: ${message.text()} (${url})`);
    });
  };
  context.on('page', watch);
  const page = context.pages()[0] ?? (await context.newPage());
  watch(page);
  page.setDefaultTimeout(60_000);
  try {
    await play(page, context);
  } catch (error) {
    await page.screenshot({ path: picture('failure') }).catch(() => {});
    console.error(errors.join('\n'));
    throw error;
  } finally {
    await context.close();
  }
  assert.deepEqual(errors, []);
}

/** Types a line into a terminal and waits until its answer is on the screen. */
export async function typeInto(frame, keyboard, line, answer) {
  const screen = frame.locator('.xterm-screen:visible').first();
  await screen.click();
  // A prompt is there before anything is typed: keys before that would be the terminal's to lose.
  await frame.locator('.xterm-rows:visible').first().filter({ hasText: /[$#%>]/ }).waitFor();
  await keyboard.type(line);
  await keyboard.press('Enter');
  await frame.locator('.xterm-rows:visible').first().filter({ hasText: answer }).waitFor();
}
