// Where in a list what is new ends. Pure.

/** In a list that is newest first: before which row the last visit's begin; -1 where all of it is new, or nothing is. */
export function newUpTo(rows: readonly { readonly at: number }[], since: number): number {
  if (since <= 0) return -1;
  const first = rows.findIndex((row) => row.at <= since);
  return first > 0 ? first : -1;
}
