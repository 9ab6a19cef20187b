/*
 * The flow of messages between all: rows of the store's pages, kept current by the hive's frames. Pure.
 *
 * Rows are newest first and at most `ROWS_MAX`; a frame that a page already holds changes nothing but the state.
 */

import type { DashboardEvent, Schemas } from "../lib/protocol";

export type FlowRow = Schemas["FlowRow"];

export const ROWS_MAX = 2000;

export interface FlowFilter {
  readonly agent?: string | undefined;
  readonly with?: string | undefined;
  readonly state?: FlowRow["state"] | undefined;
  readonly q?: string | undefined;
}

/** Whether a message that just came belongs here. The hive itself judges words only for what is stored. */
export function belongs(row: FlowRow, filter: FlowFilter): boolean {
  const pair = [row.from, row.to];
  if (filter.agent && !pair.includes(filter.agent)) return false;
  if (filter.with && !pair.includes(filter.with)) return false;
  if (filter.agent && filter.agent === filter.with && row.from !== row.to) return false;
  if (filter.state && row.state !== filter.state) return false;
  const words = filter.q?.toLowerCase().match(/"[^"]+"|\S+/gu) ?? [];
  const body = row.body.toLowerCase();
  return words.every((word) => body.includes(word.replace(/"/gu, "")));
}

/** The rows after these frames, in order. */
export function applied(rows: readonly FlowRow[], frames: readonly DashboardEvent[], filter: FlowFilter): readonly FlowRow[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  let changed = false;
  for (const frame of frames) {
    const next = step(frame, byId);
    if (!next || (!byId.has(next.id) && !belongs(next, filter))) continue;
    byId.set(next.id, next);
    changed = true;
  }
  if (!changed) return rows;
  return [...byId.values()].sort((one, other) => other.id - one.id).slice(0, ROWS_MAX);
}

function step(frame: DashboardEvent, known: ReadonlyMap<number, FlowRow>): FlowRow | undefined {
  if (frame.kind === "message_state") {
    const row = known.get(frame.id);
    if (!row) return undefined;
    return { ...row, state: frame.state, ...(frame.turn === undefined ? {} : { turn: frame.turn }), ...(frame.note === undefined ? {} : { note: frame.note }) };
  }
  if (frame.kind !== "sent" && frame.kind !== "delivered") return undefined;
  const row = known.get(frame.id);
  if (row) return frame.kind === "delivered" && row.state === "pending" ? { ...row, state: "in_flight" } : undefined;
  const { id, from, to, body, at, file_refs, cut } = frame;
  return { id, from, to, body, at, state: frame.kind === "sent" ? "pending" : "in_flight", tries: 0, file_refs, ...(cut ? { cut } : {}) };
}

/** Of frames that wait: the messages that are new and wanted here, with what became of them; at most as many as are shown. */
export function news(frames: readonly DashboardEvent[], filter: FlowFilter): { frames: DashboardEvent[]; count: number } {
  const wanted = frames.flatMap((frame) => (frame.kind === "sent" && belongs({ ...frame, state: "pending", tries: 0 }, filter) ? [frame.id] : []));
  const ids = new Set(wanted.slice(-ROWS_MAX));
  return { frames: frames.filter((frame) => (frame.kind === "sent" || frame.kind === "delivered" || frame.kind === "message_state") && ids.has(frame.id)), count: ids.size };
}

/** With another page of older ones. */
export function joined(rows: readonly FlowRow[], page: readonly FlowRow[]): readonly FlowRow[] {
  const byId = new Map([...page, ...rows].map((row) => [row.id, row]));
  return [...byId.values()].sort((one, other) => other.id - one.id).slice(0, ROWS_MAX);
}

export interface Thread {
  readonly key: string;
  readonly pair: readonly [string, string];
  readonly last: FlowRow;
  readonly count: number;
  /** How many of them are held or dead. */
  readonly stuck: number;
}

/** The rows by who writes with whom, the liveliest first. */
export function threads(rows: readonly FlowRow[]): readonly Thread[] {
  const found = new Map<string, FlowRow[]>();
  for (const row of rows) {
    const key = [row.from, row.to].sort().join(" ");
    const thread = found.get(key);
    if (thread) thread.push(row);
    else found.set(key, [row]);
  }
  return [...found].map(([key, all]) => ({
    key,
    pair: key.split(" ") as [string, string],
    last: all[0] as FlowRow,
    count: all.length,
    stuck: all.filter((row) => row.state === "held" || row.state === "dead").length,
  }));
}
