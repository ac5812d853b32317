// What is on the screen: which tile fills the frame, and what is open over it.

export type TileId = 'files' | 'runs' | 'cli';

export const TILES: { id: TileId; name: string; key: string }[] = [
  { id: 'files', name: 'Files', key: 'f' },
  { id: 'runs', name: 'Runs', key: 'r' },
  { id: 'cli', name: 'CLI', key: 'c' },
];

export class View {
  full = $state<TileId>();
  keysShown = $state(false);
  /** Counts up when the user goes to a tile by key, so that it can take the focus. */
  visits = $state<Record<TileId, number>>({ files: 0, runs: 0, cli: 0 });
  #chord = -Infinity;

  expand(tile: TileId): void {
    this.full = tile;
    this.visits[tile]++;
  }

  toggle(tile: TileId): void {
    if (this.full === tile) this.full = undefined;
    else this.expand(tile);
  }

  /** Handles a key that no field, terminal or dialog wanted. True when it meant something here. */
  key({ key, ctrlKey, metaKey, altKey, timeStamp }: KeyboardEvent): boolean {
    if (ctrlKey || metaKey || altKey) return false;
    const chord = timeStamp - this.#chord < 1000;
    this.#chord = -Infinity;
    if (chord) {
      const tile = TILES.find((each) => each.key === key);
      if (tile) this.expand(tile.id);
      return tile !== undefined;
    }
    if (key === 'g') this.#chord = timeStamp;
    else if (key === '?') this.keysShown = true;
    else if (key === 'Escape' && this.full) this.full = undefined;
    else return false;
    return true;
  }
}
