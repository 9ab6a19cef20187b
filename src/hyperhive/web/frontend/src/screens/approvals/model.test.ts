import { describe, expect, it } from "vitest";
import type { Approval } from "../../lib/protocol";
import { decisiveLines, isArmed, remarksOf, rivalsOf, stepsOf } from "./model";

const approval = (change: Partial<Approval> = {}): Approval =>
  ({ id: 1, agent: "alice", kind: "apply_commit", commit_ref: "a".repeat(40), requested_at: 1, status: "pending", stage: "proposal", ...change }) as Approval;

describe("what is said beside a diff", () => {
  it("is sorted by what it means", () => {
    const found = remarksOf([
      "taken over while it runs: model, budget",
      "taken by a restart between two turns: network",
      "cut: memory: 8G is cut to 4G by [agents.alice.limits]",
      "it would fail: agent.toml:2: modle: is not known",
      "agent.toml: line 9 of the diff has U+202E (RIGHT-TO-LEFT OVERRIDE)",
      "it does not build on what is deployed now, and cannot be approved any more",
      "logo.png is no text: its content is not shown",
    ]);
    expect(found.live).toEqual(["model", "budget"]);
    expect(found.restarts).toEqual(["network"]);
    expect([found.cut.length, found.fails.length, found.hidden.length, found.blocked.length, found.others.length]).toEqual([1, 1, 1, 1, 1]);
  });
});

describe("the stages", () => {
  const states = (change: Partial<Approval>) => stepsOf(approval(change)).map((step) => `${step.name}:${step.state}`);
  it("say where it is", () => {
    expect(states({})).toEqual(["proposal:now", "approved:waiting", "building:waiting", "deployed:waiting"]);
    expect(states({ status: "approved", stage: "building" })).toEqual(["proposal:done", "approved:done", "building:now", "deployed:waiting"]);
    expect(states({ status: "approved", stage: "deployed" })).toEqual(["proposal:done", "approved:done", "building:done", "deployed:done"]);
    expect(states({ status: "denied", stage: "denied" }).at(-1)).toBe("denied:failed");
    expect(states({ status: "failed", stage: "failed" }).at(-1)).toBe("failed:failed");
  });
});

describe("rivals", () => {
  it("are the other proposals of the same agent that may still be deployed", () => {
    const all = [
      approval({ id: 1 }), approval({ id: 2 }), approval({ id: 3, agent: "bob" }),
      approval({ id: 4, status: "denied", stage: "denied" }), approval({ id: 5, status: "approved", stage: "building" }),
    ];
    expect(rivalsOf(approval({ id: 1 }), all).map((one) => one.id)).toEqual([2, 5]);
  });
});

describe("a failure's note", () => {
  it("is cut to the lines that say why", () => {
    const note = [...Array.from({ length: 50 }, (_, n) => `step ${n}`), "error: no such package", "see above"].join("\n");
    const { lines, left } = decisiveLines(note);
    expect(lines).toHaveLength(20);
    expect(lines).toContain("error: no such package");
    expect(left).toBe(32);
  });

  it("begins at the error where much follows it", () => {
    const note = ["building", "error: bad", ...Array.from({ length: 40 }, (_, n) => `more ${n}`)].join("\n");
    expect(decisiveLines(note).lines[0]).toBe("error: bad");
  });
});

describe("the key that approves", () => {
  it("counts a second time only after a first, also on a page that has just been opened", () => {
    expect(isArmed(0, 900)).toBe(false);
    expect(isArmed(900, 1500)).toBe(true);
    expect(isArmed(900, 5000)).toBe(false);
  });
});
