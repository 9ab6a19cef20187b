import { describe, expect, it } from "vitest";
import { barsOf, niceTop, partsOf, price, spendingOf } from "./figures";

describe("figures", () => {
  it("never make a price of 0 out of one that is not known", () => {
    expect(price(0, 1200)).toBeUndefined();
    expect(price(undefined, 0)).toBeUndefined();
    expect(price(0, 0)).toBe(0);
    expect(price(0.25, 1200)).toBe(0.25);
  });

  it("give each bar its own span, without holes", () => {
    const bars = barsOf({ start: 1000, step: 3600, buckets: [1, 0, 4] });
    expect(bars.map((bar) => [bar.value, bar.from, bar.to])).toEqual([[1, 1000, 4600], [0, 4600, 8200], [4, 8200, 11800]]);
  });

  it("have a round top", () => {
    expect([0, 1, 3, 7, 12, 180, 251].map(niceTop)).toEqual([1, 1, 4, 8, 20, 200, 400]);
  });

  it("order a mix by size", () => {
    expect(partsOf({ a: 1, b: 3 })).toEqual([{ name: "b", value: 3, share: 0.75 }, { name: "a", value: 1, share: 0.25 }]);
    expect(partsOf({})).toEqual([]);
  });

  it("add up: the whole is the sum of agents and of days", () => {
    const until = 10 * 86_400 + 500;
    const row = (day: number, agent: string, tokens: number, cost: number) => ({ day: day * 86_400, agent, tokens, cost, requests: 1 });
    const rows = [row(10, "ada", 5, 0.5), row(9, "ada", 7, 0.25), row(10, "ben", 100, 0), row(1, "old", 1, 1)];
    const found = spendingOf(rows, 3, until);
    expect(found.days.map((day) => day / 86_400)).toEqual([8, 9, 10]);
    expect(found.agents.map((each) => [each.name, each.tokens, each.cost])).toEqual([["ben", 100, undefined], ["ada", 12, 0.75]]);
    expect([found.tokens, found.cost, found.requests]).toEqual([112, 0.75, 3]);
  });
});
