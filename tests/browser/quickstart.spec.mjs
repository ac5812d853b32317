// The quickstart in JupyterLab: every cell runs, stderr is told apart, the GUI is there and takes typing.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

const jupyter = new URL(process.env.NOTEBOOK).origin;

// High enough that JupyterLab keeps every cell in the page.
const size = { width: 1280, height: 2000, isOurs: (url) => url !== '' && !url.startsWith(jupyter) };

await scene(size, async (page) => {
  await page.goto(process.env.NOTEBOOK);
  const notebook = page.locator('.jp-NotebookPanel-notebook');
  await notebook.locator('.jp-CodeCell').first().waitFor();
  // Before the kernel is there, JupyterLab answers "run" with a question.
  await page.getByText('Python 3 (ipykernel) | Idle').waitFor();
  await page.locator('.lm-MenuBar-item', { hasText: /^Run$/ }).click();
  await page.locator('.lm-Menu-item', { hasText: /^Run All Cells/ }).click();

  const cell = (source) => notebook.locator('.jp-CodeCell').filter({ hasText: source });
  const output = (source) => cell(source).locator('.jp-OutputArea-output');
  const stream = (source, name) =>
    cell(source).locator(`[data-mime-type="application/vnd.jupyter.${name}"]`);
  const text = async (locator) => (await locator.allInnerTexts()).join('\n').trim();

  const frame = page.frameLocator('iframe[title^="hpcclient"]');
  await frame.locator('main').first().waitFor();

  assert.match(await text(stream("hpcrpc.ls('-la')", 'stdout')), /^total \d+/m);
  const loop = 'for i in 1 2 3';
  assert.match(await text(stream(loop, 'stdout')), /out 1[^]*out 2[^]*out 3/);
  assert.match(await text(stream(loop, 'stderr')), /err 1[^]*err 2[^]*err 3/);
  assert.doesNotMatch(await text(stream(loop, 'stdout')), /err/);
  const colour = (name) =>
    stream(loop, name).first().evaluate((box) => {
      const style = getComputedStyle(box);
      return `${style.backgroundColor} ${style.color}`;
    });
  assert.notEqual(await colour('stderr'), await colour('stdout'));
  assert.match(await text(output('exit 3')), /\('hello\\n', 3\)/);
  assert.equal(await text(output("hpcrpc.cd('/tmp')")), '/tmp');
  assert.equal(await text(output('hpcrpc.run([')), 'a b;$c');
  assert.equal(await text(output('runs[-1].attach')), 'a b;$c');

  await typeInto(frame, page.keyboard, 'echo typed-$((6 * 7))', 'typed-42');
  await frame.getByText('out 1').or(frame.getByText('for i in 1 2 3')).first().waitFor();
  // Focus away, so that the picture has no caret in it.
  await page.mouse.move(0, 0);
  await page.screenshot({ path: picture('quickstart') });
  await page.locator('iframe[title^="hpcclient"]').screenshot({ path: picture('gui-in-notebook') });
});
