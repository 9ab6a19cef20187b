import { expect, it } from "vitest";
import { type Hit, placeOf } from "./place";

const hit = (change: Partial<Hit>): Hit => ({ kind: "message", id: 7, cursor: 9, at: 1, snippet: [], ...change });

it("leads to what was found, among its neighbours", () => {
  expect(placeOf(hit({}))).toBe("/messages?id=7&before=27");
  expect(placeOf(hit({ kind: "event", agent: "bob", turn: 3, eid: 70 }))).toBe("/agents/bob/t/3#e70");
  expect(placeOf(hit({ kind: "event", agent: "bob" }))).toBe("/agents/bob#e7");
  expect(placeOf(hit({ kind: "question" }))).toBe("/questions/7");
  expect(placeOf(hit({ kind: "decision" }))).toBe("/audit?before=8");
});
