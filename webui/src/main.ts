// The entry: theme, page, app.
import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { Page } from './state/page.svelte';
import { theme } from './state/theme.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no #app');

const page = new Page();
theme.listen();
void page.start();
mount(App, { target, props: { page } });
