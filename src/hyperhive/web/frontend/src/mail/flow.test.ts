import { describe, expect, it } from "vitest";
import type { DashboardEvent } from "../lib/protocol";
import { type FlowRow, ROWS_MAX, applied, belongs, joined, news, threads } from "./flow";

const row = (id: number, change: Partial<FlowRow> = {}): FlowRow => ({ id, from: "alice", to: "bob", body: `text ${id}`, at: id, state: "acked", tries: 0, file_refs: [], ...change });
const sent = (id: number, from = "alice", to = "bob"): DashboardEvent => ({ kind: "sent", seq: id, id, from, to, body: `text ${id}`, at: id, file_refs: [] }) as DashboardEvent;

describe("the flow", () => {
  it("takes new messages once, newest first, also where a page holds them already", () => {
    const rows = applied([row(2), row(1)], [sent(3), sent(3), sent(2)], {});
    expect(rows.map((one) => one.id)).toEqual([3, 2, 1]);
    expect(rows[1]?.state).toBe("acked");
  });

  it("follows what becomes of a message", () => {
    const frames = [sent(1), { kind: "delivered", id: 1, from: "alice", to: "bob", body: "", at: 1, file_refs: [] }, { kind: "message_state", id: 1, state: "acked", turn: 7 }];
    const rows = applied([], frames as DashboardEvent[], {});
    expect(rows[0]).toMatchObject({ state: "acked", turn: 7, body: "text 1" });
  });

  it("is not set back by a frame that comes late", () => {
    expect(applied([row(1)], [{ ...sent(1), kind: "delivered" } as DashboardEvent], {})[0]?.state).toBe("acked");
  });

  it("leaves out what the filter leaves out", () => {
    const frames = [sent(1), sent(2, "carol", "bob"), sent(3, "bob", "alice")];
    expect(applied([], frames, { agent: "alice", with: "bob" }).map((one) => one.id)).toEqual([3, 1]);
    expect(belongs(row(1, { body: "The parser is slow" }), { q: 'parser "is slow"' })).toBe(true);
    expect(belongs(row(1, { body: "The parser is fast" }), { q: 'parser "is slow"' })).toBe(false);
  });

  it("stays the same object where nothing changed", () => {
    const rows = [row(1)];
    expect(applied(rows, [{ kind: "message_state", id: 99, state: "acked" } as DashboardEvent], {})).toBe(rows);
  });

  it("counts as new only what belongs here, and keeps what became of it while it waits", () => {
    const read = { kind: "message_state", id: 1, state: "acked", turn: 7 } as DashboardEvent;
    const waiting = [sent(1), sent(2, "carol", "dave"), read, { ...read, id: 99 } as DashboardEvent];
    const fresh = news(waiting, { agent: "alice" });
    expect(fresh.count).toBe(1);
    expect(applied([], fresh.frames, { agent: "alice" })).toMatchObject([{ id: 1, state: "acked", turn: 7 }]);
  });

  it("never holds more than a page can bear", () => {
    const many = Array.from({ length: ROWS_MAX }, (_, n) => row(n + 1));
    expect(applied(joined([], many), [sent(ROWS_MAX + 5)], {})).toHaveLength(ROWS_MAX);
    expect(joined(many, [row(0)])).toHaveLength(ROWS_MAX);
  });
});

describe("threads", () => {
  it("are pairs, whoever wrote", () => {
    const found = threads([row(3), row(2, { from: "bob", to: "alice", state: "dead" }), row(1, { to: "carol" })]);
    expect(found.map((one) => [one.pair.join("+"), one.count, one.stuck])).toEqual([["alice+bob", 2, 1], ["alice+carol", 1, 0]]);
  });
});
