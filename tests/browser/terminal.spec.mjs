// A console under hostile output and under a flood: what goes back to the program, and that typing gets through.
import assert from 'node:assert/strict';
import { picture, scene, typeInto } from './chromium.mjs';

const ESC = '\\033';
/** As `printf` has it; each asks the terminal to type, to tell, to open or to take something. */
const HOSTILE = [
  ...['52;c;?', '52;c;cm0gLXJmIH4K', '10;?', '11;?', '12;?', '4;1;?', '4;0;?;1;?', '50;?', '17;?', '19;?'].map((s) => `${ESC}]${s}\\a`),
  ...['0;$(id)', '8;;javascript:alert(1)', '8;;', '1337;ReportCellSize', '9;x', '777;notify;a;b', '5522;type=read'].map((s) => `${ESC}]${s}${ESC}\\\\`),
  ...['$qm', '$qr', '$q q', '+q544e', '+q0a69640a', '0;1|17/726d0a'].map((s) => `${ESC}P${s}${ESC}\\\\`),
  ...['>c', '=c', '>q', '21t', '20t', '18t', '14t', '13t', '11t', '?2026$p', '4$p', 'x', '?u', '?996n', '?15n', '1$w', '0;0;1;1;1;1*y'].map((s) => `${ESC}[${s}`),
  '\\005',
  `${ESC}Z`,
];
/** Writes 100 MB of one letter, which is the last key that was pressed. */
const FLOOD = `import os, select, signal, tty
signal.signal(signal.SIGINT, signal.SIG_DFL)
tty.setcbreak(0)
key, left = b"x", 100_000_000
while left > 0:
    if select.select([0], [], [], 0)[0]: key = os.read(0, 1)
    left -= os.write(1, (key * 79 + b"\\n") * 100)
print("over")`;

/** Everything that the page types into a run, as the socket carries it, and how much of output came. */
function watch(page) {
  const seen = { typed: '', received: 0, answeredAt: undefined };
  page.on('websocket', (socket) => {
    socket.on('framesent', ({ payload }) => {
      if (typeof payload !== 'string') seen.typed += payload.subarray(12).toString('latin1');
    });
    socket.on('framereceived', ({ payload }) => {
      if (typeof payload === 'string') return;
      seen.received += payload.length;
      if (payload.indexOf('QQQQ') >= 0) seen.answeredAt ??= seen.received;
    });
  });
  return seen;
}

await scene({ width: 900, height: 600 }, async (page) => {
  const seen = watch(page);
  await page.goto(process.env.PAGE);
  const rows = page.locator('.xterm-rows:visible').first();
  await typeInto(page, page.keyboard, 'stty -echo; echo re""ady', 'ready');

  // The output comes from a file, so that nothing of it is typed; `$PS1` of the shell asks nothing.
  const script = HOSTILE.map((each) => `printf '${each}'`).join('; ');
  await page.keyboard.type(`cat > /tmp/hostile.$$ <<'END'\n${script}\nEND\n`);
  await page.keyboard.type('. /tmp/hostile.$$; rm /tmp/hostile.$$; echo; echo al""l-shown\n');
  await rows.filter({ hasText: 'all-shown' }).waitFor();
  const typed = seen.typed;
  assert.ok(!typed.includes('\x1b'), `the terminal typed ${JSON.stringify(typed.replace(/[^\x1b]*(\x1b.{0,30})/gs, '$1 '))}`);
  assert.ok(!(await page.locator('a[href^="javascript"]').count()));
  await page.screenshot({ path: picture('terminal-hostile') });

  // What common programs ask is answered; the program here reads it as they do.
  await page.keyboard.type(`printf '${ESC}[c'; IFS= read -r -d c -t 20 x; printf '${ESC}[6n'; IFS= read -r -d R -t 20 y; printf 'got-%s%s\\n' "\${#x}" "\${y:+-position}"\n`);
  await rows.filter({ hasText: /got-\d+-position/ }).waitFor();

  // A flood: what is typed into it shows, and Ctrl-C ends it long before all of it was shown.
  await page.keyboard.type(`stty echo; clear; python3 -c '${FLOOD}'\n`);
  await rows.filter({ hasText: 'xxxx' }).waitFor();
  const began = seen.received;
  const start = Date.now();
  await page.keyboard.type('Q');
  while (seen.answeredAt === undefined && Date.now() - start < 60_000) await rows.evaluate(() => new Promise(requestAnimationFrame));
  console.log(`the answer in the flood after ${Date.now() - start} ms, ${seen.answeredAt - began} bytes`);
  assert.ok(seen.answeredAt - began < 8_000_000, `the answer came ${seen.answeredAt - began} bytes later`);
  await rows.filter({ hasText: 'QQQQ' }).waitFor();
  const before = seen.received;
  const pressed = Date.now();
  await page.keyboard.press('Control+C');
  await rows.filter({ hasText: /[$#]/ }).waitFor();
  console.log(`prompt ${Date.now() - pressed} ms after Ctrl-C, ${seen.received - before} bytes`);
  assert.ok(seen.received - before < 8_000_000, `${seen.received - before} bytes came after Ctrl-C`);
  // What was passed over counts: a colour that was set in the middle of a flood is the one after it.
  await page.keyboard.type(`clear; seq 1 400000; printf '${ESC}[31m'; seq 1 400000; printf '%s${ESC}[0m\\n' in-re""d\n`);
  await rows.locator('.xterm-fg-1', { hasText: 'in-red' }).waitFor();
  await page.keyboard.type('echo al""ive\n');
  await rows.filter({ hasText: 'alive' }).waitFor();
});
