// The terminal's colours, from the page's tokens. Part of the terminal's own chunk.
import type { ITheme } from '@xterm/xterm';

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
