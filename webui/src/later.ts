// What the first paint does not need, as one chunk: the views that open from a list or by a key.
//
// Loaded by `state/later.svelte.ts` as soon as the connection stands, so that opening one does not wait.
// Invariant: nothing here is imported from the shell, or it would be in the shell.
export { snapshot } from './lib/calls';
export { default as ConsoleTools } from './tiles/ConsoleTools.svelte';
export { default as EndConsole } from './tiles/EndConsole.svelte';
export { default as FilePreview } from './tiles/FilePreview.svelte';
export { default as FindBar } from './tiles/FindBar.svelte';
export { default as RenameDialog } from './tiles/RenameDialog.svelte';
export { default as RunDetail } from './tiles/RunDetail.svelte';
export { default as RunDialogs } from './tiles/RunDialogs.svelte';
export { runKey } from './tiles/runkeys';
export { default as RunsBar } from './tiles/RunsBar.svelte';
export { default as SharesList } from './tiles/SharesList.svelte';
export { default as Keys } from './ui/Keys.svelte';
