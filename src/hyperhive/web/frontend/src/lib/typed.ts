// Words that are typed into a field and kept in the address a moment later. What comes back from the address by our own
// doing is no news: letters may have been typed since, and none of them is lost.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** The words of a field, and how to set them. `held`: what the address holds; `hold` is given what was typed, after `ms`. */
export function useTyped(held: string, hold: (words: string) => void, ms: number): [string, (words: string) => void] {
  const [words, setWords] = useState(held);
  const known = useRef(held);
  useLayoutEffect(() => {
    if (held === known.current) return;
    known.current = held;
    setWords(held);
  }, [held]);
  useEffect(() => {
    if (words === held) return undefined;
    const timer = setTimeout(() => {
      known.current = words;
      hold(words);
    }, ms);
    return () => clearTimeout(timer);
  }, [words]);
  return [words, setWords];
}
