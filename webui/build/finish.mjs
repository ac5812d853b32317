// Finishes dist/ (or dist-login/, with `login`) after Vite: one request for the whole shell, the hashes
// its CSP needs, and brotli.
//
//   index.html        (login.html) with the CSS and the entry script inside
//   assets/later-…    what it loads afterwards, bound to this very shell
//   csp-hash.txt      'sha256-…' of each inline script, separated by spaces
//   csp-style-hash.txt  the same of the login page's style sheet: its policy allows no other
//   <file>.br         of every file, quality 11
//
// It prints the sizes and fails when one is over its budget.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

const isLogin = process.argv[2] === 'login';
const dist = new URL(isLogin ? '../dist-login/' : '../dist/', import.meta.url).pathname;
const page = isLogin ? 'login.html' : 'index.html';
const budget = { 'index.html': 40 * 1024, 'login.html': 25 * 1024, other: 130 * 1024 };
const read = (file) => readFileSync(join(dist, file), 'utf8');
const files = () =>
  readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dist.length));

/**
 * Inlined, the entry has no URL that a chunk could import. So it lays its exports into one object, and
 * a chunk takes them from there. Such a chunk's name has a hash over both: the browser keeps chunks
 * for good, and one of another shell would take wrong things. Returns the entry as it is then.
 */
function bindChunks(file, entry) {
  const shell = 'globalThis.hpcclientShell';
  const pairs = (names, order) =>
    names.split(',').map((name) => {
      const [from, to = from] = name.trim().split(' as ');
      return order(from, to);
    });
  let bound = entry.replace(/export\{([^{}]*)\};?$/, (_, names) => {
    return `${shell}={${pairs(names, (local, name) => `${name}:${local}`)}};`;
  });
  for (const chunk of files().filter((name) => name.endsWith('.js') && name !== file)) {
    const code = read(chunk).replace(
      /import\{([^{}]*)\}from"\.\.\/([^"]+)";?/,
      (all, names, from) => {
        return from === file
          ? `const{${pairs(names, (n, local) => `${n}:${local}`)}}=${shell};`
          : all;
      },
    );
    if (code.includes(`/${file}"`)) throw new Error(`${chunk} imports the entry in an unknown way`);
    if (!code.includes(shell)) continue;
    const hash = createHash('sha256').update(entry).update(code).digest('hex').slice(0, 8);
    const name = chunk.replace(/-[\w-]{8}\.js$/, `-${hash}.js`);
    if (name === chunk || !bound.includes(chunk)) throw new Error(`${chunk} cannot be renamed`);
    rmSync(join(dist, chunk));
    writeFileSync(join(dist, name), code);
    bound = bound.replaceAll(chunk, name);
  }
  if (/^export\b|[;}]export[{ ]/.test(bound)) throw new Error('the entry still exports something');
  return bound;
}

let html = read(page);

// The style sheet and the entry go into the page.
html = html.replace(/<link rel="stylesheet"[^>]*href="\.\/([^"]+)"[^>]*>/, (_, file) => {
  const css = read(file);
  rmSync(join(dist, file));
  return `<style>${css}</style>`;
});
let entry = '';
html = html.replace(/<script type="module"[^>]*src="\.\/([^"]+)"><\/script>/, (_, file) => {
  entry = bindChunks(file, read(file).trim()).replaceAll('</script', '<\\/script');
  rmSync(join(dist, file));
  return '';
});
if (!entry) throw new Error(`${page} has no entry script`);
html = html.replace('</body>', () => `<script type="module">${entry}</script></body>`);
writeFileSync(join(dist, page), html);

const hashes = (pattern) =>
  [...html.matchAll(pattern)]
    .map(([, text]) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`)
    .join(' ');
const scripts = hashes(/<script(?: type="module")?>([\s\S]*?)<\/script>/g);
writeFileSync(join(dist, 'csp-hash.txt'), scripts);
if (isLogin) writeFileSync(join(dist, 'csp-style-hash.txt'), hashes(/<style>([\s\S]*?)<\/style>/g));

let over = false;
for (const file of files().sort()) {
  const raw = readFileSync(join(dist, file));
  const packed = brotliCompressSync(raw, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
    },
  });
  writeFileSync(join(dist, `${file}.br`), packed);
  const limit = budget[file] ?? budget.other;
  over ||= packed.length > limit;
  const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`.padStart(11);
  const note = packed.length > limit ? `  over ${limit / 1024} KiB` : '';
  console.log(`${file.padEnd(36)}${kib(raw.length)}${kib(packed.length)} br${note}`);
}
if (over) process.exit(1);
