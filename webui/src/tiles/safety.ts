// What a terminal may answer to the program whose output it shows. Part of the terminal's own chunk.
//
// Output is hostile: `cat` of a file can ask the terminal to type. So nothing is answered but what is listed
// in ALLOWED, whose answers hold digits only, and of those only a few in a second. All else that xterm
// would answer, and all that would change more than the text, is swallowed here, also what xterm does not
// know today. Used by `terminal.ts` and `player.ts`; the corpus is in `safety.test.ts`.
import type { IFunctionIdentifier, ILinkHandler, Terminal } from '@xterm/xterm';

/** Answered, and why. */
const ALLOWED: [IFunctionIdentifier, string][] = [
  [{ final: 'c' }, 'DA1: fish and neovim wait for it after their other questions'],
  [
    { final: 'n' },
    'DSR 5 and 6: readline, fish, prompt_toolkit and `resize` ask where the cursor is',
  ],
  [
    { prefix: '?', final: 'n' },
    'DECXCPR: the same with a question mark, asked by ncurses programs',
  ],
];

/** Never answered, and why. */
const SWALLOWED_CSI: [IFunctionIdentifier, string][] = [
  [{ prefix: '>', final: 'c' }, 'DA2: a version; programs go on without it'],
  [{ prefix: '=', final: 'c' }, 'DA3: an identity'],
  [{ prefix: '>', final: 'q' }, 'XTVERSION: text of a name and a version'],
  [{ intermediates: '$', final: 'p' }, 'DECRQM: the output chooses digits of the answer'],
  [{ prefix: '?', intermediates: '$', final: 'p' }, 'DECRQM, private modes'],
  [{ final: 't' }, 'window manipulation: reports of title, size and position; moves the window'],
  [{ prefix: '>', final: 't' }, 'XTSMTITLE: how titles are reported'],
  [{ final: 'x' }, 'DECREQTPARM: terminal parameters'],
  [{ intermediates: '*', final: 'y' }, 'DECRQCRA: a checksum reads the screen back'],
  [{ intermediates: '&', final: 'u' }, 'DECRQUPSS: a character set'],
  [{ intermediates: '$', final: 'w' }, 'DECRQPSR: cursor and tab stops as text'],
  [{ intermediates: '$', final: 'u' }, 'DECRQTSR: the state of the terminal'],
  [{ prefix: '?', final: 'u' }, 'kitty keyboard flags'],
  [{ prefix: '?', final: 'S' }, 'XTSMGRAPHICS: sizes of graphics'],
  [{ prefix: '?', final: 'g' }, 'XTQUERY of key formats'],
  [{ prefix: '?', final: 'm' }, 'XTQMODKEYS: key modifiers'],
  [{ final: 'i' }, 'media copy: prints the screen back to the host'],
  [{ prefix: '?', final: 'i' }, 'media copy'],
  [{ intermediates: '#', final: 'R' }, 'XTREPORTCOLORS'],
];
const SWALLOWED_DCS: [IFunctionIdentifier, string][] = [
  [{ intermediates: '$', final: 'q' }, 'DECRQSS: settings as text'],
  [{ intermediates: '+', final: 'q' }, 'XTGETTCAP: text that the output chooses'],
  [{ intermediates: '+', final: 'p' }, 'XTSETTCAP'],
  [{ final: '|' }, 'DECUDK: text for function keys that the output chooses'],
];
/**
 * Colours (4, 5, 10–19, 104–119: asked for, they answer; set, they hide text), fonts (50), the clipboard (52),
 * notifications and progress (9, 99, 777), and the extensions of iTerm2 (1337), which read files and the clipboard.
 */
const SWALLOWED_OSC = [
  3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 50, 51, 52, 60, 61, 99, 104, 105,
  106, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 176, 555, 777, 1337, 5522,
];

const FOCUS_REPORTS = 1004;
const ANSWERS = { most: 40, perMs: 1000 };

/**
 * Lets a terminal answer only what is listed, and only while `mayAnswer`.
 * Returns whether what the terminal wants to send may be sent.
 */
export function guard(terminal: Terminal, mayAnswer: () => boolean): (text: string) => boolean {
  let left = ANSWERS.most;
  let since = 0;
  const spends = (): boolean => {
    if (performance.now() - since > ANSWERS.perMs) {
      since = performance.now();
      left = ANSWERS.most;
    }
    return mayAnswer() && left-- > 0;
  };
  // A handler that returns true has dealt with it: xterm's own is not asked.
  const { parser } = terminal;
  for (const [id] of ALLOWED) parser.registerCsiHandler(id, () => !spends());
  for (const [id] of SWALLOWED_CSI) parser.registerCsiHandler(id, () => true);
  for (const [id] of SWALLOWED_DCS) parser.registerDcsHandler(id, () => true);
  for (const number of SWALLOWED_OSC) parser.registerOscHandler(number, () => true);
  // Who asks for reports of the focus is told at once whether the terminal has it. Only what the user
  // does to the focus later is told.
  let focusAsked = 0;
  parser.registerCsiHandler({ prefix: '?', final: 'h' }, (params) => {
    focusAsked += params.flat().filter((mode) => mode === FOCUS_REPORTS).length;
    return false;
  });
  return (text) => {
    if (focusAsked > 0 && /^\x1b\[[IO]$/.test(text)) {
      focusAsked--;
      return false;
    }
    return !REPORT.test(text);
  };
}

// What no key, click or paste of a user produces: strings, mode and window reports, long device attributes.
// A user's own Alt-P is the two characters alone. It is the second line of defence.
const REPORT = /^\x1b(?:[P\]_^X].|\[[?>=]?[\d;]*(?:\$y|[tx])$|\[>[\d;]*c$)/s;

/** Opens a link of the output: http or https, with Ctrl or Cmd, in a page that knows nothing of this one. */
export function openLink(event: MouseEvent, url: string): void {
  if ((event.ctrlKey || event.metaKey) && isWebLink(url))
    window.open(url, '_blank', 'noopener,noreferrer');
}

export function isWebLink(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

/** Links that the output names itself (OSC 8): their text may say anything, so the target is shown. */
export function linkHandler(element: HTMLElement): ILinkHandler {
  return {
    activate: openLink,
    hover: (_, url) => (element.title = isWebLink(url) ? `${url} (Ctrl-click)` : ''),
    leave: () => (element.title = ''),
    allowNonHttpProtocols: false,
  };
}
