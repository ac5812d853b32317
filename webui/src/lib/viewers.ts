// Words about who looks at a run.
import { visible } from './visible';
import type { Viewer } from './wire';

/** `2 viewing`, once there is more than one. */
export const viewing = (viewers: Viewer[]): string =>
  viewers.length > 1 ? `${viewers.length} viewing` : '';

/** One line for each user: `alice, 2 windows`, `bob, looks on`. */
export function viewerLines(viewers: Viewer[]): string[] {
  const users = new Map<string, Viewer[]>();
  for (const viewer of viewers) users.set(viewer.user, [...(users.get(viewer.user) ?? []), viewer]);
  return [...users].map(([user, theirs]) => {
    const windows = theirs.length > 1 ? `, ${theirs.length} windows` : '';
    const looks = theirs.every(({ access }) => access === 'view') ? ', looks on' : '';
    return visible(user) + windows + looks;
  });
}
