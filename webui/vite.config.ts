import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// `HPCCLIENT_PAGE=http://localhost:<port> npm run dev` works on the UI against a real page of the bridge.
const page = process.env['HPCCLIENT_PAGE'];
const toPage = page && { target: page, changeOrigin: true, ws: true, headers: { origin: page } };

/**
 * A later chunk takes what it shares from the shell as it is at that moment (`build/finish.mjs`). That is
 * right for functions and classes, and wrong for the variables inside of Svelte: all of it stays in
 * the shell.
 */
const wholeRuntimeInShell: Plugin = {
  name: 'whole-runtime-in-shell',
  generateBundle(_, bundle) {
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== 'chunk' || chunk.isEntry) continue;
      const inside = chunk.moduleIds.filter((id) => id.includes('/node_modules/svelte/'));
      if (inside.length > 0) this.error(`${chunk.fileName} has ${inside.join(', ')} inside`);
    }
  },
};

/** What the entries import at once, and what that imports: the shell. */
function filesOfShell(): Set<string> {
  const found = new Set<string>();
  const waiting = ['src/main.ts', 'src/login/main.ts'].map((file) => resolve(file));
  for (let file = waiting.pop(); file; file = waiting.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    const imports = readFileSync(file, 'utf8').matchAll(
      /^\s*(?:import|export) (?!type)[^'"]*?from '(\.[^']+)'/gm,
    );
    for (const [, path = ''] of imports) {
      const to = resolve(dirname(file), path);
      const file_ = [to, `${to}.ts`].find((each) => /\.\w+$/.test(each) && existsSync(each));
      if (file_) waiting.push(file_);
    }
  }
  return found;
}
const shell = filesOfShell();

// `--mode login` builds the login page, which is in the bridge; else the dashboard, which is in the agent.
export default defineConfig(({ mode }) => ({
  // Every URL is relative, so the page works at `/` and behind any proxy's prefix.
  base: './',
  plugins: [
    // The styles of a later view come with it: only those of the shell are in the page.
    svelte({
      dynamicCompileOptions: ({ filename }) => (shell.has(filename) ? {} : { css: 'injected' }),
    }),
    wholeRuntimeInShell,
  ],
  build: {
    target: 'es2022',
    outDir: mode === 'login' ? 'dist-login' : 'dist',
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      input: mode === 'login' ? 'login.html' : 'index.html',
      // The entry lies beside index.html: `build/finish.mjs` moves it into the page, and its
      // imports of `./assets/…` stay true there.
      output: { entryFileNames: '[name].js' },
    },
  },
  server: toPage ? { proxy: { '/v1': toPage, '/page-token': toPage } } : {},
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
}));
