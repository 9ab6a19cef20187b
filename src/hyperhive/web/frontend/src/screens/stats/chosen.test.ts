import { describe, expect, it } from "vitest";
import { moved, type Stop } from "./chosen";

const stop = (of: string): Stop => ({ says: of, of });
const bars = [[stop("")], [stop("")], [stop("")]];
const stacks = [[stop("alice"), stop("bob")], [], [stop("bob")], [stop("carol"), stop("alice"), stop("bob")]];

describe("choosing a bar by the keyboard", () => {
  it("begins at the newest, and stays within the chart", () => {
    expect(moved(bars, undefined, "ArrowLeft")).toEqual([2, 0]);
    expect(moved(bars, [2, 0], "ArrowRight")).toEqual([2, 0]);
    expect(moved(bars, [2, 0], "ArrowLeft")).toEqual([1, 0]);
    expect(moved(bars, [1, 0], "Home")).toEqual([0, 0]);
    expect(moved(bars, [0, 0], "ArrowLeft")).toEqual([0, 0]);
    expect(moved(bars, [0, 0], "End")).toEqual([2, 0]);
  });

  it("goes from part to part, keeps to one agent from day to day, and passes over empty days", () => {
    expect(moved(stacks, [0, 0], "ArrowUp")).toEqual([0, 1]);
    expect(moved(stacks, [0, 1], "ArrowUp")).toEqual([0, 1]);
    expect(moved(stacks, [0, 1], "ArrowRight")).toEqual([2, 0]);
    expect(moved(stacks, [2, 0], "ArrowRight")).toEqual([3, 2]);
    expect(moved(stacks, [3, 0], "ArrowLeft")).toEqual([2, 0]);
    expect(moved(stacks, [3, 2], "ArrowDown")).toEqual([3, 1]);
  });

  it("leaves other keys, and empty charts, alone", () => {
    expect(moved(bars, [0, 0], "j")).toBeUndefined();
    expect(moved([[], []], undefined, "End")).toBeUndefined();
  });
});
