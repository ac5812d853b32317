// How terminals look: the page's font and its colours. Part of the terminal's own chunk.
import type { ITerminalOptions, ITheme } from '@xterm/xterm';
import css from '@xterm/xterm/css/xterm.css?inline';

/** xterm's own rules come with the chunk, once. */
const style = document.createElement('style');
style.textContent = css;
document.head.append(style);

/** What all terminals of the page have in common. */
export function look(): ITerminalOptions {
  return {
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono'),
    fontSize: 11.5,
    lineHeight: 1.2,
    cursorStyle: 'bar',
    macOptionIsMeta: true,
    minimumContrastRatio: 4.5,
    theme: palette(),
  };
}

export function palette(): ITheme {
  const style = getComputedStyle(document.documentElement);
  const token = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const dark = document.documentElement.dataset['theme'] === 'dark';
  return {
    background: token('sunken'),
    foreground: token('text'),
    cursor: token('accent'),
    cursorAccent: token('sunken'),
    selectionBackground: dark ? '#55b9c944' : '#006f8633',
    black: dark ? '#1a272d' : '#33424a',
    red: token('err'),
    green: token('ok'),
    yellow: token('warn'),
    blue: token('info'),
    magenta: token('violet'),
    cyan: token('accent'),
    white: dark ? '#c9d4d8' : '#7c8b92',
    brightBlack: token('muted'),
    brightRed: token('err'),
    brightGreen: token('ok'),
    brightYellow: token('warn'),
    brightBlue: token('info'),
    brightMagenta: token('violet'),
    brightCyan: token('accent'),
    brightWhite: token('text'),
  };
}
