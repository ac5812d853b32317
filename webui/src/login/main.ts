// The entry of the login page.
import { mount } from 'svelte';
import '../app.css';
import './login.css';
import { pageToken } from '../lib/api';
import { pageUrl } from '../lib/bridge';
import { browserWindow, TokenStore } from '../lib/token';
import { theme } from '../state/theme.svelte';
import { loginApi } from './api';
import { Login } from './login.svelte';
import LoginPage from './LoginPage.svelte';

const NOTICE_MS = 1800;

const target = document.getElementById('app');
if (!target) throw new Error('login.html has no #app');

const base = new URL('.', document.baseURI).href;
const tokens = new TokenStore(browserWindow());
const login = new Login({
  takeCode: () => tokens.takeCode(),
  kept: () => tokens.load(),
  keep: (token) => tokens.save(token),
  exchange: (code) => pageToken(base, code),
  api: (token) => loginApi(base, token),
  leave: (url) => location.replace(pageUrl(url, location.hostname, theme.shade)),
  pause: () => new Promise((done) => setTimeout(done, NOTICE_MS)),
});
theme.listen();
mount(LoginPage, { target, props: { login } });
void login.start();
