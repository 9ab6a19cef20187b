/**
 * Which rows a reader wants to see: by text, by kind, errors only. Pure.
 *
 * The text is words, all of which must be there; `!word` must not. Between slashes it is a regular expression. Case
 * counts for nothing. A row is found by everything that it shows, its result and what is below it included.
 */

import { plain } from "./frames";
import type { Block, Row } from "./types";

/** Groups of row types as a reader names them. */
export const KINDS = ["mail", "says", "thinks", "tools", "notes", "system"] as const;
export type Kind = (typeof KINDS)[number];

export interface Filter {
  readonly q: string;
  /** None: all. */
  readonly kinds: ReadonlySet<Kind>;
  readonly errors: boolean;
}

export const NO_FILTER: Filter = { q: "", kinds: new Set(), errors: false };

export function filters(filter: Filter): boolean {
  return filter.q.trim() !== "" || filter.kinds.size > 0 || filter.errors;
}

const MAIL = /^(mcp__hyperhive__)?(send|recv|ask|answer)$/;

export function kindOf(row: Row): Kind {
  switch (row.type) {
    case "turn_start":
      return "mail";
    case "input":
      return row.synthetic ? "system" : "mail";
    case "text":
      return "says";
    case "thinking":
      return "thinks";
    case "tool":
      return MAIL.test(row.name) ? "mail" : "tools";
    case "result":
      return "tools";
    case "note":
      return "notes";
    default:
      return "system";
  }
}

type Test = (text: string) => boolean;

/** The test that a query stands for, or why it is none. */
export function parseQuery(q: string): { test: Test; fault?: string } {
  const text = q.trim();
  const regex = /^(!?)\/(.+)\/$/.exec(text);
  if (regex) {
    try {
      const pattern = new RegExp(regex[2] as string, "i");
      const want = regex[1] === "";
      return { test: (each) => pattern.test(each) === want };
    } catch (error) {
      return { test: () => true, fault: error instanceof Error ? error.message : String(error) };
    }
  }
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== "" && word !== "!");
  const without = words.filter((word) => word.startsWith("!")).map((word) => word.slice(1));
  const wanted = words.filter((word) => !word.startsWith("!"));
  return {
    test: (each) => {
      const low = each.toLowerCase();
      return wanted.every((word) => low.includes(word)) && !without.some((word) => low.includes(word));
    },
  };
}

/** The words to mark in what is shown. */
export function wordsOf(q: string): string[] {
  if (/^!?\/.+\/$/.test(q.trim())) return [];
  return q.toLowerCase().split(/\s+/).filter((word) => word !== "" && !word.startsWith("!"));
}

const texts = new WeakMap<Row, string>();

/** All that a row shows, as text. */
export function textOf(row: Row): string {
  let text = texts.get(row);
  if (text === undefined) {
    text = gather(row);
    texts.set(row, text);
  }
  return text;
}

function gather(row: Row): string {
  switch (row.type) {
    case "turn_start":
      return `${row.from}\n${row.body}`;
    case "turn_end":
      return `turn ${row.ok ? "ended well" : "failed"} ${row.note ?? ""}`;
    case "tool":
      return [row.name, row.view.title, ...row.view.blocks.map(blockText), row.result?.text ?? "", ...row.children.map(textOf)].join("\n");
    case "result":
      return row.result.text;
    case "system":
      return [row.label, row.title, ...row.blocks.map(blockText)].join("\n");
    case "gap":
      return "";
    case "unknown":
      return `${row.label}\n${row.text}`;
    default:
      return row.text;
  }
}

function blockText(block: Block): string {
  switch (block.kind) {
    case "code":
    case "markdown":
      return block.text;
    case "diff":
      return block.lines.map((line) => line.text).join("\n");
    case "todos":
      return block.items.map((item) => item.text).join("\n");
    case "fields":
      return block.fields.map(([name, value]) => `${name}: ${value}`).join("\n");
    case "mail":
      return block.letters.map((letter) => `${letter.from}\n${letter.body}`).join("\n");
  }
}

/** Whether an error is in the row or below it. */
export function hasError(row: Row): boolean {
  return row.error || (row.type === "tool" && row.children.some(hasError));
}

/** A test of rows. Gaps are always shown where anything is. */
export function rowTest(filter: Filter): (row: Row) => boolean {
  const { test } = parseQuery(filter.q);
  const any = filter.q.trim() === "";
  return (row) =>
    row.type !== "gap" &&
    (!filter.errors || hasError(row)) &&
    (filter.kinds.size === 0 || filter.kinds.has(kindOf(row))) &&
    (any || test(textOf(row)));
}

/** The row as JSON lines, as it came. */
export function rawOf(row: Row): string {
  return row.raw.map((frame) => JSON.stringify(frame)).join("\n");
}

/** The row as a line of plain text, for the clipboard. */
export function lineOf(row: Row): string {
  if (row.type === "tool") return `${row.view.label} ${row.view.title}`;
  if (row.type === "system") return `${row.label}: ${row.title}`;
  return plain(textOf(row));
}
