/**
 * Rows in the making: a tree that changes, and its unchanging picture.
 *
 * A node may still change (a result comes, a subagent says more); `picture` gives rows that keep their identity while
 * nothing about them changed, so that a screen draws anew only what did.
 */

import type { Row, ToolRow, TurnEndRow, TurnStartRow } from "./types";

type Plain<R> = R extends ToolRow ? Omit<ToolRow, "children"> : R;
/** A row without what is below it. */
export type Leaf = Plain<Row>;

export interface Node {
  row: Leaf;
  readonly children: Node[];
  readonly above?: Node;
  readonly group: Group;
  picture?: Row;
}

export interface Group {
  readonly key: string;
  readonly turn?: number;
  readonly nodes: Node[];
  ended: boolean;
  picture?: TurnGroup;
}

/** The rows of one turn, or those between two. */
export interface TurnGroup {
  readonly key: string;
  readonly turn?: number;
  readonly rows: readonly Row[];
  readonly start?: TurnStartRow;
  readonly end?: TurnEndRow;
  /** Tool calls, subagents' included. */
  readonly calls: number;
  readonly errors: number;
  /** Rows, those below others included. */
  readonly size: number;
}

/** The node says something else now: what is above it is another picture, too. */
export function change(node: Node, row: Leaf): void {
  node.row = row;
  touch(node);
}

export function touch(node: Node): void {
  for (let at: Node | undefined = node; at; at = at.above) delete at.picture;
  delete node.group.picture;
}

export function pictureOf(node: Node): Row {
  if (!node.picture) {
    const row = node.row;
    node.picture = row.type === "tool" ? { ...row, children: node.children.map(pictureOf) } : row;
  }
  return node.picture;
}

export function groupPicture(group: Group): TurnGroup {
  if (!group.picture) {
    const rows = group.nodes.map(pictureOf);
    let [calls, errors, size] = [0, 0, 0];
    const count = (row: Row): void => {
      size++;
      if (row.error) errors++;
      if (row.type !== "tool") return;
      calls++;
      row.children.forEach(count);
    };
    rows.forEach(count);
    const start = rows.find((row) => row.type === "turn_start");
    const end = rows.findLast((row) => row.type === "turn_end");
    group.picture = {
      key: group.key,
      ...(group.turn === undefined ? {} : { turn: group.turn }),
      rows,
      ...(start ? { start } : {}),
      ...(end ? { end } : {}),
      calls,
      errors,
      size,
    };
  }
  return group.picture;
}
