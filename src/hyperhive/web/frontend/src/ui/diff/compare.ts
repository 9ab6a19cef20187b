/*
 * What became of a proposal since the operator looked: which files and lines of its diff were not in the one they saw.
 */

import { type Diff, type DiffFile, changeKey } from "./parse";

export interface Since {
  /** Paths whose change is another one, or is new. */
  readonly changed: ReadonlySet<string>;
  /** Paths that were in the diff and are no more. */
  readonly gone: readonly string[];
  /** Lines that were not in the diff that was seen. */
  readonly isNew: (file: DiffFile, mark: string) => boolean;
  readonly lines: number;
}

export function since(seen: Diff, now: Diff): Since {
  const before = new Map(seen.files.map((file) => [file.path, file]));
  const changed = new Set<string>();
  const fresh = new Map<string, Set<string>>();
  let lines = 0;
  for (const file of now.files) {
    const old = before.get(file.path);
    before.delete(file.path);
    if (old && changeKey(old) === changeKey(file)) continue;
    const added = newLines(old, file);
    // The same lines on another base: nothing for the operator to read again.
    if (old && added.size === 0 && old.added === file.added && old.removed === file.removed) continue;
    changed.add(file.path);
    fresh.set(file.path, added);
    lines += added.size;
  }
  return {
    changed,
    gone: [...before.keys()],
    isNew: (file, mark) => fresh.get(file.path)?.has(mark) ?? false,
    lines,
  };
}

/** What a line is known by on the screen: its side and its number there. */
export function markOf(line: { kind: string; oldNo?: number; newNo?: number }): string {
  return line.kind === "del" ? `-${line.oldNo}` : `+${line.newNo}`;
}

function newLines(old: DiffFile | undefined, now: DiffFile): Set<string> {
  const known = new Map<string, number>();
  for (const line of old?.hunks.flatMap((hunk) => hunk.lines) ?? []) {
    if (line.kind !== "same") known.set(line.kind + line.text, (known.get(line.kind + line.text) ?? 0) + 1);
  }
  const found = new Set<string>();
  for (const line of now.hunks.flatMap((hunk) => hunk.lines)) {
    if (line.kind === "same") continue;
    const left = known.get(line.kind + line.text) ?? 0;
    if (left > 0) known.set(line.kind + line.text, left - 1);
    else found.add(markOf(line));
  }
  return found;
}
