// Fuzzy matching for the palette and completions. Pure.

/** How well `query` matches `text` as a subsequence, higher is better; null where it does not. */
export function score(query: string, text: string): number | null {
  const q = query.toLowerCase().replace(/\s+/g, "");
  const t = text.toLowerCase();
  if (q === "") return 0;
  const whole = t.indexOf(query.toLowerCase().trim());
  if (whole >= 0) return 1000 - whole * 2 - t.length * 0.1 + (startsWord(t, whole) ? 100 : 0);
  let points = 0;
  let at = -1;
  for (const char of q) {
    const next = t.indexOf(char, at + 1);
    if (next < 0) return null;
    points += next === at + 1 ? 8 : startsWord(t, next) ? 6 : 1 - Math.min(next - at, 20) * 0.2;
    at = next;
  }
  return points - t.length * 0.1;
}

const startsWord = (text: string, at: number): boolean => at === 0 || !/[a-z0-9]/.test(text[at - 1]!);

/** The candidates that match, best first; equals keep their order. */
export function rank<T>(query: string, candidates: readonly T[], text: (candidate: T) => string): T[] {
  return candidates
    .map((candidate, order) => ({ candidate, order, points: score(query, text(candidate)) }))
    .filter((each): each is typeof each & { points: number } => each.points !== null)
    .sort((a, b) => b.points - a.points || a.order - b.order)
    .map((each) => each.candidate);
}
