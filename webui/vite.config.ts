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

// `--mode login` builds the login page, which is in the bridge; else the dashboard, which is in the agent.
export default defineConfig(({ mode }) => ({
  // Every URL is relative, so the page works at `/` and behind any proxy's prefix.
  base: './',
  plugins: [svelte(), wholeRuntimeInShell],
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
