import { describe, expect, it } from "vitest";
import type { ContainerView } from "../../lib/protocol";
import { chipsOf, doing, grouped, held, matches } from "./model";

const agent = (name: string, more: Partial<ContainerView> = {}): ContainerView => ({
  name, role: "agent", running: true, state: "idle", turn_state: "idle", turn_state_since: 1, unread: 0, model: "haiku", isolation: "bwrap",
  network: "none", account: "default", needs_login: false, needs_update: false, held_by_operator: false, pending_reminders: 0, ...more,
});

describe("the fleet table", () => {
  it("shows those that need the operator first, then failed, working, idle, stopped", () => {
    const groups = grouped([agent("a", { state: "stopped" }), agent("b", { state: "working" }), agent("c", { state: "needs_you" }), agent("d", { state: "failed" }), agent("e")], "name");
    expect(groups.map((group) => group.state)).toEqual(["needs_you", "failed", "working", "idle", "stopped"]);
  });

  it("filters by words, by their absence, and by chips", () => {
    const one = agent("parser", { needs_update: true, model: "opus" });
    expect(matches(one, "pars opus", 0)).toBe(true);
    expect(matches(one, "pars !opus", 0)).toBe(false);
    expect(matches(one, "update:needed", 0)).toBe(true);
    expect(matches(one, "!update:needed", 0)).toBe(false);
    expect(matches(one, "login:needed", 0)).toBe(false);
    expect(matches(one, "", 0)).toBe(true);
  });

  it("says what an agent that needs the operator waits for, and how much more there is", () => {
    const login = { kind: "login", key: "login:a", agent: "a", at: 1 } as const;
    expect(doing(agent("a", { turn_state: "thinking" }), [login])).toBe("is not logged in");
    expect(doing(agent("a"), [login, { ...login, key: "other" }])).toBe("is not logged in (+1)");
    expect(doing(agent("a", { turn_state: "thinking" }))).toBe("thinking");
  });

  it("gives every chip a title, and a filter that finds its agent", () => {
    const one = agent("x", {
      needs_login: true, needs_update: true, waiting_reason: "limited", waiting_until: 90, budget_used: 0.95, ctx_tokens: 170_000, pending_reminders: 2,
      network: "host", deployed_sha: "0123456789abcdef", isolation: "process", held_by_operator: true, running: false,
    });
    const chips = chipsOf(one, 30);
    expect(chips.length).toBeGreaterThan(7);
    for (const chip of chips) {
      expect(chip.title).not.toBe("");
      expect(matches(one, chip.filter, 30), chip.filter).toBe(true);
    }
    expect(chips.map((chip) => chip.text)).toContain("limit 1m");
  });

  it("moves no row under the pointer, but shows what is new and drops what is gone", () => {
    const before = grouped([agent("a"), agent("b"), agent("c")], "name");
    const fresh = grouped([agent("a", { state: "working" }), agent("c"), agent("d"), agent("e", { state: "needs_you" })], "name");
    const still = held(fresh, before);
    expect(still.map((group) => [group.state, group.agents.map((each) => each.name)])).toEqual([
      ["idle", ["a", "c", "d"]],
      ["needs_you", ["e"]],
    ]);
    expect(still[0]!.agents[0]!.state).toBe("working");
  });
});
