/**
 * The rows of the live terminal: what one event, or several that belong together, are shown as.
 *
 * Rows are plain data without markup. `key` is stable over rebuilds (a row that is open stays open); `raw` is what the
 * row was made of, for "copy raw JSON". How each looks is the agent screen's affair.
 */

import type { Frame } from "./frames";
import type { DiffLine } from "./linediff";

/** One part of a row's body. */
export type Block =
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "markdown"; readonly text: string }
  | { readonly kind: "diff"; readonly lines: readonly DiffLine[] }
  | { readonly kind: "todos"; readonly items: readonly Todo[] }
  | { readonly kind: "fields"; readonly fields: readonly (readonly [string, string])[] }
  | { readonly kind: "mail"; readonly letters: readonly Letter[] };

export interface Todo {
  readonly text: string;
  readonly state: "pending" | "in_progress" | "completed";
}

export interface Letter {
  readonly from: string;
  readonly body: string;
  readonly redelivered: boolean;
}

interface Base {
  readonly key: string;
  readonly eid?: number;
  readonly seq?: number;
  readonly turn?: number;
  /** Unix seconds. */
  readonly at?: number;
  readonly error: boolean;
  /** The tool call that this happened inside of: a subagent's. */
  readonly parent?: string;
  readonly raw: readonly Frame[];
}

export interface ToolResult {
  readonly blocks: readonly Block[];
  readonly error: boolean;
  readonly text: string;
}

/** What a tool call is shown as. `open`: its body is shown from the start. */
export interface ToolView {
  readonly label: string;
  readonly title: string;
  readonly blocks: readonly Block[];
  readonly open: boolean;
  readonly server?: string;
}

export type ToolState = "running" | "done" | "failed" | "denied";

export interface TurnStartRow extends Base {
  readonly type: "turn_start";
  readonly from: string;
  readonly body: string;
  readonly unread: number;
}
export interface TurnEndRow extends Base {
  readonly type: "turn_end";
  readonly ok: boolean;
  readonly note?: string;
}
export interface TextRow extends Base {
  readonly type: "text" | "thinking";
  readonly text: string;
  readonly partial: boolean;
}
export interface ToolRow extends Base {
  readonly type: "tool";
  readonly id: string;
  readonly name: string;
  readonly view: ToolView;
  readonly state: ToolState;
  readonly result?: ToolResult;
  /** What a subagent does now, or how it ended. */
  readonly progress?: string;
  readonly children: readonly Row[];
}
/** A result whose call is not among the loaded events. */
export interface ResultRow extends Base {
  readonly type: "result";
  readonly result: ToolResult;
}
export interface NoteRow extends Base {
  readonly type: "note";
  readonly tone: "hive" | "operator" | "cli";
  readonly text: string;
}
/** What the agent reads that no tool gave it: its prompt, a message handed in, text of the CLI's own. */
export interface InputRow extends Base {
  readonly type: "input";
  readonly text: string;
  readonly synthetic: boolean;
}
/** The CLI or the hive about itself: session, retries, compaction, limits, the turn's result. */
export interface SystemRow extends Base {
  readonly type: "system";
  readonly label: string;
  readonly title: string;
  readonly blocks: readonly Block[];
}
/** Events are missing between two that are here. `to` is the first one after. */
export interface GapRow extends Base {
  readonly type: "gap";
  readonly after?: number;
  readonly to?: number;
  readonly missing: number;
}
export interface UnknownRow extends Base {
  readonly type: "unknown";
  readonly label: string;
  readonly text: string;
}

export type Row =
  | TurnStartRow
  | TurnEndRow
  | TextRow
  | ToolRow
  | ResultRow
  | NoteRow
  | InputRow
  | SystemRow
  | GapRow
  | UnknownRow;

export type RowType = Row["type"];
