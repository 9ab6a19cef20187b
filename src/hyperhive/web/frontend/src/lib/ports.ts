// The link's real surroundings.
import type { LinkPorts } from "./link";

export const realPorts: LinkPorts = {
  fetch: (path, init) => fetch(path, init),
  now: () => Date.now(),
  later: (run, ms) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};
