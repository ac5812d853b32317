// What is shared by this user and with this user, while somebody looks at it.
//
// Made by the share dialog and the list of shares. An agent that knows no shares, or whose site has them off,
// answers with an error or with `off`: both are told where the list would be.
import { asError, Failure } from '../lib/api';
import { share, shares, unshare } from '../lib/calls';
import { uuidV7 } from '../lib/uuid';
import type { ApiError, Share, ShareList, ShareSpec } from '../lib/wire';
import type { House } from './page.svelte';

const NONE: ShareList = { byMe: [], withMe: [] };

export class Shares {
  list = $state.raw<ShareList>(NONE);
  loaded = $state(false);
  error = $state.raw<ApiError>();
  busy = $state(false);

  constructor(readonly house: House) {}

  async load(): Promise<void> {
    try {
      this.list = await shares(this.house.api);
      this.error = undefined;
    } catch (error) {
      const unknown = error instanceof Failure && error.status === 404;
      if (unknown) this.list = { ...NONE, off: 'the agent on the node is too old for shares' };
      else this.error = asError(error);
    }
    this.loaded = true;
  }

  /** Shares; false when that failed, and `error` says why. */
  add = (spec: ShareSpec) => this.#change(() => share(this.house.api, uuidV7(), spec));

  takeBack = ({ id }: Share) => this.#change(() => unshare(this.house.api, id));

  async #change(request: () => Promise<unknown>): Promise<boolean> {
    this.busy = true;
    try {
      await request();
      await this.load();
      return this.error === undefined;
    } catch (error) {
      this.error = asError(error);
      return false;
    } finally {
      this.busy = false;
    }
  }
}
