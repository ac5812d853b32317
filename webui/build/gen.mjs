// Writes src/lib/api.gen.ts from docs/openapi.json; with --check it only says whether that would change it.
//
// Called by `npm run gen` and `npm run gen:check`. Formatted with prettier, so that the
// file that is checked in reads like the others.
import { readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';
import { format, resolveConfig } from 'prettier';

const source = new URL('../../docs/openapi.json', import.meta.url);
const target = new URL('../src/lib/api.gen.ts', import.meta.url);
const header = '// Generated from docs/openapi.json by `npm run gen`. Do not edit.\n\n';

const types = astToString(await openapiTS(source, { silent: true }));
const options = await resolveConfig(target);
const now = await format(header + types, { ...options, filepath: target.pathname });
if (!process.argv.includes('--check')) {
  writeFileSync(target, now);
} else if (readFileSync(target, 'utf8') !== now) {
  console.error('src/lib/api.gen.ts is not what docs/openapi.json says: run `npm run gen`');
  process.exit(1);
}
