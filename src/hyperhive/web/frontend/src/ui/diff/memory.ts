/*
 * What this browser remembers of a proposal: which files were viewed, which lines were commented on, the diff that was
 * seen. Kept by what was read (contents' ids, the diff's hash), so that a change resets exactly what it changed. Gone
 * with the approval. Storage that is full, shut or holds nonsense is no memory, and no error.
 */

import { type DiffFile, changeKey } from "./parse";

export interface Comment {
  readonly path: string;
  /** `+12` or `-7`: the side and the line there. */
  readonly mark: string;
  /** The line's own text, when it was commented on. */
  readonly line: string;
  readonly text: string;
}

export interface Memory {
  readonly viewed: readonly string[];
  readonly comments: readonly Comment[];
  readonly reason: string;
  /** The last diff that was on this screen: its hash, and its text where it is not too long to keep. */
  readonly seen?: { readonly sha: string; readonly digest: string; readonly text?: string };
}

export const EMPTY: Memory = { viewed: [], comments: [], reason: "" };
const PREFIX = "hive.approval.";
const SEEN_MAX = 200_000;

type Box = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export function recall(id: number, box: Box = localStorage): Memory {
  try {
    const found: unknown = JSON.parse(box.getItem(PREFIX + id) ?? "null");
    return isMemory(found) ? { ...EMPTY, ...found } : EMPTY;
  } catch {
    return EMPTY;
  }
}

export function remember(id: number, memory: Memory, box: Box = localStorage): void {
  const seen = memory.seen?.text && memory.seen.text.length > SEEN_MAX ? { sha: memory.seen.sha, digest: memory.seen.digest } : memory.seen;
  try {
    box.setItem(PREFIX + id, JSON.stringify(seen ? { ...memory, seen } : memory));
  } catch {
    // A full or shut storage: the marks last as long as the page.
  }
}

export function forget(id: number, box: Box = localStorage): void {
  try {
    box.removeItem(PREFIX + id);
  } catch {
    // As above.
  }
}

/** Forgets every approval but these: what was decided elsewhere leaves nothing behind here. */
export function forgetOthers(open: readonly number[], box: Box & Pick<Storage, "key" | "length"> = localStorage): void {
  const keys = Array.from({ length: box.length }, (_, index) => box.key(index) ?? "");
  for (const key of keys) {
    if (key.startsWith(PREFIX) && !open.includes(Number(key.slice(PREFIX.length)))) box.removeItem(key);
  }
}

export function isViewed(memory: Memory, file: DiffFile): boolean {
  return memory.viewed.includes(changeKey(file));
}

export function withViewed(memory: Memory, file: DiffFile, viewed: boolean): Memory {
  const others = memory.viewed.filter((key) => key !== changeKey(file));
  return { ...memory, viewed: viewed ? [...others, changeKey(file)] : others };
}

/** With this comment in place of the one on the same line; an empty one takes it away. */
export function withComment(memory: Memory, comment: Comment): Memory {
  const others = memory.comments.filter((one) => one.path !== comment.path || one.mark !== comment.mark);
  return { ...memory, comments: comment.text.trim() ? [...others, comment] : others };
}

/** What the denial says: the reason, then each comment with the line it is about. */
export function denial(memory: Memory): string {
  const notes = [...memory.comments]
    .sort((one, other) => one.path.localeCompare(other.path) || lineNumber(one) - lineNumber(other))
    .map((one) => `${one.path}, line ${lineNumber(one)}${one.mark.startsWith("-") ? " (removed)" : ""}:\n> ${one.line}\n${one.text.trim()}`);
  return [memory.reason.trim(), ...notes].filter(Boolean).join("\n\n");
}

function lineNumber(comment: Comment): number {
  return Number(comment.mark.slice(1));
}

function isMemory(value: unknown): value is Partial<Memory> {
  if (typeof value !== "object" || value === null) return false;
  const { viewed, comments, reason } = value as Record<string, unknown>;
  return Array.isArray(viewed) && Array.isArray(comments) && typeof reason === "string";
}
