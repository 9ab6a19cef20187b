import { describe, expect, it } from "vitest";
import { compareLines, countLines, diffLines } from "./linediff";

const text = (lines: readonly { sign: string; text: string }[], signs: string): string =>
  lines.filter((line) => signs.includes(line.sign)).map((line) => line.text).join("\n");

describe("differences of lines", () => {
  it("hold both texts, whatever they are", () => {
    const words = ["a", "b", "c"];
    let seed = 7;
    const next = (n: number): number => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n;
    for (let round = 0; round < 200; round++) {
      const make = (): string[] => Array.from({ length: next(9) + 1 }, () => words[next(3)] as string);
      const [before, after] = [make().join("\n"), make().join("\n")];
      const way = compareLines(before, after);
      expect(text(way, " -")).toBe(before);
      expect(text(way, " +")).toBe(after);
    }
  });

  it("are as few as can be", () => {
    expect(countLines(compareLines("a\nb\nc\nd", "a\nc\nx\nd"))).toEqual({ added: 1, removed: 1 });
    expect(compareLines("", "a\nb\n")).toEqual([{ sign: "+", text: "a" }, { sign: "+", text: "b" }]);
    expect(compareLines("same\n", "same\n")).toEqual([{ sign: " ", text: "same" }]);
  });

  it("fold what is equal and far away", () => {
    const before = Array.from({ length: 50 }, (_, n) => `line ${n}`);
    const after = before.with(25, "changed");
    const shown = diffLines(before.join("\n"), after.join("\n"));
    expect(shown.filter((line) => line.sign === "@").map((line) => line.text)).toEqual(["22 lines as they were", "21 lines as they were"]);
    expect(shown).toHaveLength(3 + 2 + 3 + 2);
  });

  it("of huge texts are not searched for, and still whole", () => {
    const before = Array.from({ length: 2000 }, (_, n) => `a${n}`).join("\n");
    const after = Array.from({ length: 2000 }, (_, n) => `b${n}`).join("\n");
    expect(countLines(compareLines(before, after))).toEqual({ added: 2000, removed: 2000 });
  });
});
