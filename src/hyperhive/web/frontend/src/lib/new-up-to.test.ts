import { describe, expect, it } from "vitest";
import { newUpTo } from "./new-up-to";

const rows = [40, 30, 20, 10].map((at) => ({ at }));

describe("the line between what is new and what was seen", () => {
  it("stands before the newest row that was there at the last visit", () => {
    expect(newUpTo(rows, 25)).toBe(2);
    expect(newUpTo(rows, 30)).toBe(1);
  });

  it("is not drawn where nothing or everything is new, nor on a first visit", () => {
    expect(newUpTo(rows, 40)).toBe(-1);
    expect(newUpTo(rows, 9)).toBe(-1);
    expect(newUpTo([], 9)).toBe(-1);
    expect(newUpTo(rows, 0)).toBe(-1);
  });
});
