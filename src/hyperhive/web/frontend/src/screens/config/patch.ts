/*
 * Files before a change, from the files after it: so that a rollback can be looked at before it is asked for. And the
 * other way round, the diff between two sets of files. Pure.
 */

import { compareLines } from "../../rows/linediff";
import { type Diff, type DiffFile, type DiffLine, type Hunk } from "../../ui/diff/parse";

export type Files = ReadonlyMap<string, string>;

/** The files as they were before this diff; undefined where they cannot be known (no text, or not what it says). */
export function undone(files: Files, diff: Diff): Files | undefined {
  const before = new Map(files);
  for (const file of diff.files) {
    if (file.binary) return undefined;
    if (file.status === "added") before.delete(file.path);
    else if (file.status === "deleted") before.set(file.path, textOf(file.hunks.flatMap((hunk) => side(hunk, "del"))));
    else if (file.hunks.length > 0) {
      const text = before.get(file.path);
      const old = text === undefined ? undefined : unhunked(text, file);
      if (old === undefined) return undefined;
      before.set(file.path, old);
    }
  }
  return before;
}

/** From the last hunk to the first, so that earlier line numbers still hold. */
function unhunked(text: string, file: DiffFile): string | undefined {
  const lines = text.split("\n");
  for (const hunk of [...file.hunks].reverse()) {
    const [now, old] = [side(hunk, "add"), side(hunk, "del")];
    const at = now.length > 0 ? hunk.newStart - 1 : hunk.newStart;
    if (now.some((line, index) => lines[at + index] !== line.text)) return undefined;
    lines.splice(at, now.length, ...old.map((line) => line.text));
    const [nowEnds, oldEnds] = [now, old].map((all) => all.at(-1)?.noNewline === true);
    if (nowEnds && !oldEnds) lines.push("");
    if (!nowEnds && oldEnds && lines.at(-1) === "") lines.pop();
  }
  return lines.join("\n");
}

/** A hunk's lines on one side: those it shares, and those that are this side's alone. */
function side(hunk: Hunk, kind: "add" | "del"): readonly DiffLine[] {
  return hunk.lines.filter((line) => line.kind === "same" || line.kind === kind);
}

function textOf(lines: readonly DiffLine[]): string {
  const text = lines.map((line) => line.text).join("\n");
  return lines.length === 0 || lines.at(-1)?.noNewline ? text : `${text}\n`;
}

const CONTEXT = 3;
const IDS = ["0".repeat(40), "1".repeat(40)] as const;

/** The diff between two sets of files, in git's form. */
export function diffOf(before: Files, after: Files): string {
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return paths.map((path) => fileDiff(path, before.get(path), after.get(path))).join("");
}

function fileDiff(path: string, before: string | undefined, after: string | undefined): string {
  if (before === after) return "";
  const kind = before === undefined ? "new file mode 100644\n" : after === undefined ? "deleted file mode 100644\n" : "";
  const head =
    `diff --git a/${path} b/${path}\n${kind}index ${IDS[0]}..${IDS[1]}\n` +
    `--- ${before === undefined ? "/dev/null" : `a/${path}`}\n+++ ${after === undefined ? "/dev/null" : `b/${path}`}\n`;
  return head + hunksOf(before ?? "", after ?? "");
}

function hunksOf(before: string, after: string): string {
  const way = compareLines(before, after);
  const near = new Set<number>();
  way.forEach((line, at) => {
    if (line.sign !== " ") for (let n = at - CONTEXT; n <= at + CONTEXT; n += 1) near.add(n);
  });
  let [oldNo, newNo] = [1, 1];
  let found = "";
  let hunk: { old: number; now: number; lines: string[] } | undefined;
  const close = (): void => {
    if (hunk) found += hunkText(hunk);
    hunk = undefined;
  };
  way.forEach((line, at) => {
    if (near.has(at)) {
      hunk ??= { old: oldNo, now: newNo, lines: [] };
      hunk.lines.push(line.sign + line.text);
    } else close();
    if (line.sign !== "+") oldNo += 1;
    if (line.sign !== "-") newNo += 1;
  });
  close();
  return found;
}

function hunkText({ old, now, lines }: { old: number; now: number; lines: readonly string[] }): string {
  const count = (marks: string): number => lines.filter((line) => marks.includes(line.charAt(0))).length;
  const [olds, news] = [count(" -"), count(" +")];
  return `@@ -${olds ? old : old - 1},${olds} +${news ? now : now - 1},${news} @@\n${lines.join("\n")}\n`;
}
