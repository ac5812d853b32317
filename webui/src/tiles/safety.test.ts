// A corpus of what hostile output can say, and the bytes that go back to the program.
//
// The same xterm as on the page, without a screen. What needs one (colours, the clipboard, links) is in
// `tests/browser/terminal.spec.mjs`.
import { Terminal } from '@xterm/xterm';
import { describe, expect, it } from 'vitest';
import { guard, isWebLink } from './safety';

const ESC = '\x1b';
const ST = `${ESC}\\`;
const osc = (text: string) => [`${ESC}]${text}\x07`, `${ESC}]${text}${ST}`, `\u009d${text}\u009c`];

const CORPUS: [string, string[]][] = [
  ['clipboard is read', [...osc('52;c;?'), ...osc('52;p;?'), ...osc('52;;?')]],
  ['clipboard is written', [...osc('52;c;cm0gLXJmIH4K'), ...osc('52;c;!')]],
  ['kitty clipboard', osc('5522;type=read')],
  [
    'colours are asked for',
    ['4;0;?', '4;1;?;2;?', '5;0;?', '10;?', '11;?', '12;?', '13;?'].flatMap(osc),
  ],
  [
    'more colours',
    ['14;?', '15;?', '16;?', '17;?', '18;?', '19;?', '10;?;?;?', '21;foreground=?'].flatMap(osc),
  ],
  [
    'colours are set',
    ['4;0;#ffffff', '10;#000000', '11;#000000', '104', '110', '111'].flatMap(osc),
  ],
  ['fonts are asked for', [...osc('50;?'), ...osc('60'), ...osc('61')]],
  [
    'titles are asked for',
    [`${ESC}]2;\nrm -rf ~\n\x07${ESC}[21t`, `${ESC}[20t`, `${ESC}]l;x${ST}`],
  ],
  ['titles are kept', [`${ESC}[22;0t${ESC}[23;0t`, `${ESC}[>0;1;2;3t`]],
  ['the window', [11, 13, 14, 15, 16, 18, 19].map((n) => `${ESC}[${n}t`)],
  [
    'the window, otherwise',
    [`${ESC}[13;2t`, `${ESC}[14;2t`, `${ESC}[8;1;1t`, `${ESC}[2t`, `${ESC}[5t`],
  ],
  ['settings', ['m', 'r', ' q', '"p', '"q', 's', 't', '|', '*|'].map((s) => `${ESC}P$q${s}${ST}`)],
  ['settings, 8 bit', [`\u0090$qm\u009c`, `${ESC}P$q\nid\n${ST}`]],
  ['capabilities', [`${ESC}P+q544e${ST}`, `${ESC}P+q0a69640a${ST}`, `${ESC}P+p544e${ST}`]],
  ['keys are defined', [`${ESC}P0;1|17/726d0a${ST}`]],
  ['an answer on enquiry', ['\x05', '\x05\x05\x05', `${ESC}[0m\x05`]],
  [
    'versions',
    [`${ESC}[>c`, `${ESC}[>0c`, `${ESC}[=c`, `${ESC}[>q`, `${ESC}[>0q`, `${ESC}Z`, '\u009b>c'],
  ],
  [
    'modes',
    [`${ESC}[4$p`, `${ESC}[?1$p`, `${ESC}[?2026$p`, `${ESC}[?1049$p`, `${ESC}[?99999999$p`],
  ],
  [
    'parameters',
    [`${ESC}[x`, `${ESC}[1x`, `${ESC}[0;0;1;1;1;1*y`, `${ESC}[1$w`, `${ESC}[2$w`, `${ESC}[1$u`],
  ],
  ['keyboards', [`${ESC}[?u`, `${ESC}[>1u${ESC}[?u`, `${ESC}[?4m`, `${ESC}[?4g`]],
  [
    'other reports',
    [`${ESC}[?15n`, `${ESC}[?25n`, `${ESC}[?26n`, `${ESC}[?53n`, `${ESC}[?62n`, `${ESC}[?63;1n`],
  ],
  ['colour scheme', [`${ESC}[?996n`, `${ESC}[#R`, `${ESC}[?1;1;0S`, `${ESC}[?2;1;0S`]],
  ['printing', [`${ESC}[i`, `${ESC}[?1i`, `${ESC}[5i secret ${ESC}[4i`, `${ESC}[0i`]],
  [
    'files and images',
    [...osc('1337;File=name=YQ==;inline=1:AAAA'), ...osc('1337;ReportVariable=dXNlcg==')],
  ],
  [
    'more of iTerm2',
    [
      ...osc('1337;Copy=:eA=='),
      ...osc('1337;ReportCellSize'),
      ...osc('1337;RequestUpload=format=tgz'),
    ],
  ],
  ['graphics', [`${ESC}_Gi=1,a=q,s=1,v=1;AAAA${ST}`, `${ESC}Pq"1;1;1;1#0${ST}`]],
  ['notifications', [...osc('9;buy'), ...osc('777;notify;a;b'), ...osc('99;;x')]],
  ['private strings', [`${ESC}^x\nid\n${ST}`, `${ESC}Xx\nid\n${ST}`, `${ESC}_x\nid\n${ST}`]],
  ['in pieces that never end', [`${ESC}]52;c;`, `${ESC}P$q`, `${ESC}[`, `${ESC}`]],
  [
    'inside another sequence',
    [`${ESC}[1${ESC}[>c`, `${ESC}]0;${ESC}[>q\x07`, `${ESC}P${ESC}]10;?\x07`],
  ],
  ['focus and mouse without a user', [`${ESC}[?1004h`, `${ESC}[?1003h${ESC}[?1006h`, `${ESC}[?9h`]],
  ['links', [...osc('8;;javascript:alert(1)'), ...osc('8;;file:///etc/passwd')]],
];

/** Returns what a terminal sends back on this output. */
async function answers(output: string | Uint8Array, mayAnswer = true): Promise<string[]> {
  const terminal = new Terminal({ allowProposedApi: true });
  const sent: string[] = [];
  const passes = guard(terminal, () => mayAnswer);
  terminal.onData((text) => passes(text) && sent.push(text));
  terminal.onBinary((text) => sent.push(text));
  await new Promise<void>((resolve) => terminal.write(output, resolve));
  return sent;
}

describe('hostile output', () => {
  it.each(CORPUS)('%s: nothing goes back', async (_, sequences) => {
    for (const sequence of sequences) {
      expect.soft(await answers(sequence), JSON.stringify(sequence)).toEqual([]);
      // However the bytes come: as the wire has them, and one by one.
      const bytes = new TextEncoder().encode(sequence);
      expect.soft(await answers(bytes), JSON.stringify(sequence)).toEqual([]);
    }
  });

  it('is a corpus of at least forty', () => {
    expect(CORPUS.flatMap(([, sequences]) => sequences).length).toBeGreaterThan(40);
  });

  it('gets what common programs need, in digits only', async () => {
    expect(await answers(`${ESC}[c`)).toEqual([`${ESC}[?1;2c`]);
    expect(await answers(`${ESC}[0c`)).toEqual([`${ESC}[?1;2c`]);
    expect(await answers(`${ESC}[5n`)).toEqual([`${ESC}[0n`]);
    expect(await answers(`ab${ESC}[6n`)).toEqual([`${ESC}[1;3R`]);
    expect(await answers(`ab${ESC}[?6n`)).toEqual([`${ESC}[?1;3R`]);
  });

  it('gets no answer in a replay or a snapshot', async () => {
    for (const question of ['c', '5n', '6n', '?6n'])
      expect(await answers(ESC + '[' + question, false)).toEqual([]);
    for (const sequence of CORPUS.flatMap(([, sequences]) => sequences))
      expect(await answers(sequence, false)).toEqual([]);
  });

  it('cannot make the terminal type without end', async () => {
    expect((await answers(`${ESC}[6n`.repeat(10_000))).length).toBeLessThanOrEqual(40);
  });

  it('is not sent by a second way either', () => {
    const passes = guard(new Terminal({ allowProposedApi: true }), () => true);
    const reports = [
      `${ESC}P1$r0m${ST}`,
      `${ESC}]11;rgb:00/00/00\x07`,
      `${ESC}[?2026;2$y`,
      `${ESC}[4;1;1t`,
    ];
    for (const text of [...reports, `${ESC}[>0;276;0c`, `${ESC}]lrm -rf ~${ST}`])
      expect.soft(passes(text), JSON.stringify(text)).toBe(false);
  });

  it('leaves the keys alone', () => {
    const passes = guard(new Terminal({ allowProposedApi: true }), () => true);
    const keys = [
      'a',
      ESC,
      `${ESC}P`,
      `${ESC}]`,
      `${ESC}x`,
      `${ESC}[A`,
      `${ESC}[1;5C`,
      `${ESC}[3~`,
      `${ESC}OP`,
    ];
    for (const key of [...keys, `${ESC}[200~t x${ESC}[201~`, `${ESC}[<0;3;4M`, `${ESC}[I`])
      expect.soft(passes(key), JSON.stringify(key)).toBe(true);
  });

  it('has links to the web only', () => {
    expect(isWebLink('https://example.org/a?b')).toBe(true);
    for (const url of [
      'javascript:alert(1)',
      'file:///etc/passwd',
      'data:text/html,x',
      'ssh://h',
      '//x',
      '',
    ])
      expect(isWebLink(url)).toBe(false);
  });
});
