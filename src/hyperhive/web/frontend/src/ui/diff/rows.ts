/*
 * A hunk as the rows of a screen: one column (unified) or two (split), with the words that differ between a removed
 * line and the added one beside it. Pure; what a row looks like is the components' business.
 */

import type { DiffLine, Hunk } from "./parse";

/** From and to (exclusive), in UTF-16 units of the line's text. */
export type Span = readonly [number, number];

export interface Side {
  readonly line: DiffLine;
  /** What of the line differs from the line beside it; none where the whole line is new. */
  readonly spans: readonly Span[];
}

export interface SplitRow {
  readonly left?: Side;
  readonly right?: Side;
}

export interface ViewOptions {
  /** Changes of whitespace alone are shown as unchanged lines. */
  readonly ignoreWhitespace: boolean;
}

/** Longer lines are not compared word by word: nobody reads the result, and it is slow. */
const WORDS_MAX = 400;

export function unifiedRows(hunk: Hunk, options: ViewOptions): readonly Side[] {
  return blocks(hunk, options).flatMap((block) =>
    "same" in block
      ? [{ line: block.same, spans: [] }]
      : [...block.pairs.flatMap(({ left }) => (left ? [left] : [])), ...block.pairs.flatMap(({ right }) => (right ? [right] : []))],
  );
}

export function splitRows(hunk: Hunk, options: ViewOptions): readonly SplitRow[] {
  return blocks(hunk, options).flatMap((block) =>
    "same" in block ? [{ left: { line: block.same, spans: [] }, right: { line: block.same, spans: [] } }] : block.pairs,
  );
}

type Block = { readonly same: DiffLine } | { readonly pairs: readonly SplitRow[] };

/** Unchanged lines, and between them runs of removed lines beside the added ones that replace them. */
function blocks(hunk: Hunk, options: ViewOptions): readonly Block[] {
  const found: Block[] = [];
  let removed: DiffLine[] = [];
  let added: DiffLine[] = [];
  const flush = (): void => {
    if (removed.length + added.length === 0) return;
    found.push(...paired(removed, added, options));
    [removed, added] = [[], []];
  };
  for (const line of hunk.lines) {
    if (line.kind === "add") added.push(line);
    else if (line.kind === "del") {
      if (added.length > 0) flush();
      removed.push(line);
    } else {
      flush();
      found.push({ same: line });
    }
  }
  flush();
  return found;
}

function paired(removed: readonly DiffLine[], added: readonly DiffLine[], options: ViewOptions): readonly Block[] {
  const found: Block[] = [];
  let pairs: SplitRow[] = [];
  for (let index = 0; index < Math.max(removed.length, added.length); index += 1) {
    const [before, after] = [removed[index], added[index]];
    if (options.ignoreWhitespace && before && after && squeezed(before.text) === squeezed(after.text)) {
      if (pairs.length > 0) found.push({ pairs });
      pairs = [];
      found.push({ same: { ...after, kind: "same", ...(before.oldNo === undefined ? {} : { oldNo: before.oldNo }) } });
      continue;
    }
    const spans = before && after ? wordSpans(before.text, after.text) : ([[], []] as const);
    pairs.push({
      ...(before ? { left: { line: before, spans: spans[0] } } : {}),
      ...(after ? { right: { line: after, spans: spans[1] } } : {}),
    });
  }
  if (pairs.length > 0) found.push({ pairs });
  return found;
}

function squeezed(text: string): string {
  return text.replace(/\s+/gu, "");
}

/**
 * The words that differ between two lines: what is left between their common beginning and their common end, by whole
 * words. Nothing where they have nothing in common: then all of it is new, and marking says nothing.
 */
export function wordSpans(before: string, after: string): readonly [readonly Span[], readonly Span[]] {
  if (before.length > WORDS_MAX || after.length > WORDS_MAX || before === after) return [[], []];
  const [old, now] = [words(before), words(after)];
  const shorter = Math.min(old.length, now.length);
  let head = 0;
  while (head < shorter && old[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < shorter - head && old.at(-1 - tail) === now.at(-1 - tail)) tail += 1;
  const common = [...old.slice(0, head), ...(tail ? old.slice(-tail) : [])].join("");
  if (!/[\p{L}\p{N}]/u.test(common)) return [[], []];
  return [span(old, head, tail), span(now, head, tail)];
}

function words(text: string): readonly string[] {
  return text.match(/[\p{L}\p{M}\p{N}_]+|\s+|./gsu) ?? [];
}

function span(all: readonly string[], head: number, tail: number): readonly Span[] {
  const from = all.slice(0, head).join("").length;
  const length = all.slice(head, all.length - tail).join("").length;
  return length > 0 ? [[from, from + length]] : [];
}
