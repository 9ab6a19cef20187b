/*
 * How much of a diff is drawn at once: small ones whole, larger ones file by file on demand, huge ones not at all.
 */

import type { Diff, DiffFile } from "./parse";

/** Rows that a page draws without being asked. */
export const ROWS_AT_ONCE = 500;
/** Rows that one press of "show more" adds. */
export const ROWS_MORE = 300;
/** Longer diffs (in characters) are offered as a file, and cannot be approved here. */
export const SHOWN_MAX = 2 * 1024 * 1024;

export function rowsOf(file: DiffFile): number {
  return file.hunks.reduce((sum, hunk) => sum + hunk.lines.length + 1, 1);
}

/** The paths that are open at first: in order, while there is room. The first is always open. */
export function openAtFirst(diff: Diff): ReadonlySet<string> {
  const found = new Set<string>();
  let room = ROWS_AT_ONCE;
  for (const file of diff.files) {
    room -= Math.min(rowsOf(file), ROWS_MORE);
    if (room < 0 && found.size > 0) break;
    found.add(file.path);
  }
  return found;
}

export function isTooBig(text: string): boolean {
  return text.length > SHOWN_MAX;
}
