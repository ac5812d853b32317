// Results of the user's own actions. What fails in a tile is told in that tile.
import type { ApiError } from '../lib/wire';

export interface Toast {
  id: number;
  kind: 'ok' | 'error';
  text: string;
  hint: string | undefined;
}

const SHOWN_MS = 4000;

class Toasts {
  list = $state<Toast[]>([]);
  #last = 0;

  ok(text: string): void {
    const id = this.#add({ kind: 'ok', text, hint: undefined });
    setTimeout(() => this.dismiss(id), SHOWN_MS);
  }

  /** Stays until it is dismissed. */
  error(error: ApiError): void {
    const text = [error.message, ...(error.causes ?? [])].join(': ');
    if (this.list.some((toast) => toast.text === text)) return;
    this.#add({ kind: 'error', text, hint: error.hints?.[0] });
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  #add(toast: Omit<Toast, 'id'>): number {
    this.list = [...this.list.slice(-3), { id: ++this.#last, ...toast }];
    return this.#last;
  }
}

export const toasts = new Toasts();
