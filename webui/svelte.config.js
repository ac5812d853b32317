import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    runes: true,
    // Short class names: they stand in the page many times.
    cssHash: ({ hash, css }) => `s${hash(css).slice(0, 4)}`,
  },
};
