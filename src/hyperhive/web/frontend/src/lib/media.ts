// Whether a media query holds, for what CSS alone cannot say.
import { useEffect, useState } from "preact/hooks";

/** One pane: as in the style sheets. */
export const NARROW = "(max-width: 719px)";

/** Drawn again when it changes. */
export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const told = (): void => setMatches(list.matches);
    list.addEventListener("change", told);
    return () => list.removeEventListener("change", told);
  }, [query]);
  return matches;
}
