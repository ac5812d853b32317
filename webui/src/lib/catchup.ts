// Follows a run and jumps ahead when the page cannot keep up with it.
//
// The store takes output as fast as it is written, a link or a screen does not. Without this, Ctrl-C in
// a flood would show its effect only after everything that was written before it.
// Called by what shows a run. Invariant: nothing is lost, the store keeps what is passed over.
import type { Api } from './api';
import type { Follower, Standing } from './channel';
import type { Following, Live } from './live';
import type { StreamName, StreamSizes } from './wire';

const LOOK_MS = 250;
/** Fewer bytes than these since the last look are no flood, and nobody is asked. */
const FLOOD_BYTES = 128 * 1024;
const STREAMS: StreamName[] = ['stdout', 'stderr', 'tty'];

export interface Patience {
  /** How far behind one may be, in bytes. */
  behind: number;
  /** How much of the end is shown after a jump. */
  keep: number;
}

/** As `live.follow`, but never further behind than `patience` allows. */
export function followClosely(
  live: Pick<Live, 'follow'>,
  api: Pick<Api, 'run'>,
  run: string,
  from: StreamSizes,
  follower: Follower,
  patience: Patience,
  standing?: Standing,
): Following {
  let arrived = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function look(): Promise<void> {
    const flood = arrived >= FLOOD_BYTES;
    arrived = 0;
    if (flood) {
      // Without an answer it goes on as it is; the connection tells about itself elsewhere.
      const sizes = await api.run(run).then(
        (known) => known.sizes,
        () => undefined,
      );
      const target = sizes && jump(following.offsets(), sizes, patience);
      if (target) following.skip(target);
    }
    timer = undefined;
  }

  const watched: Follower = {
    ...follower,
    data(stream, bytes, done) {
      arrived += bytes.length;
      timer ??= setTimeout(() => void look(), LOOK_MS);
      follower.data(stream, bytes, done);
    },
  };
  const following = live.follow(run, from, watched, standing);
  return {
    ...following,
    close() {
      clearTimeout(timer);
      following.close();
    },
  };
}

/** Returns where to go on, or nothing while no stream is too far behind. */
export function jump(
  have: StreamSizes,
  sizes: StreamSizes,
  { behind, keep }: Patience,
): StreamSizes | undefined {
  if (!STREAMS.some((stream) => sizes[stream] - have[stream] > behind)) return undefined;
  const at = (stream: StreamName) => Math.max(have[stream], sizes[stream] - keep);
  return { stdout: at('stdout'), stderr: at('stderr'), tty: at('tty') };
}
