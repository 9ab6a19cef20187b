import { describe, expect, it } from "vitest";
import { matcher, newLines, parseLine } from "./lines";

describe("a log's line", () => {
  it("of the hive's is its event with its fields", () => {
    const line = parseLine('{"timestamp":"2026-11-20T17:00:01Z","level":"warning","event":"agent_failed","agent":"bob","tries":2}');
    expect(line).toMatchObject({ at: Date.UTC(2026, 10, 20, 17, 0, 1) / 1000, level: "warning", text: "agent_failed agent=bob tries=2" });
  });

  it("of an agent's is words, with their time where they say one", () => {
    expect(parseLine("turn 4 failed: no")).toMatchObject({ level: "none", text: "turn 4 failed: no" });
    expect(parseLine("2026-11-20 17:00:01 turn 4 failed")).toMatchObject({ at: Date.UTC(2026, 10, 20, 17, 0, 1) / 1000, text: "turn 4 failed" });
    expect(parseLine("{not json").text).toBe("{not json");
  });
});

describe("a filter", () => {
  const lines = ["debug a", "error b", "plain c"].map((text, index) => parseLine(index === 2 ? text : `2026-11-20T17:00:01Z ${text}`));
  const kept = (level: "debug" | "error", words: string) => lines.filter(matcher({ level, words })).map((line) => line.text.at(-1)).join("");

  it("is by level, by words, by what is not there, by expression", () => {
    expect(kept("debug", "")).toBe("abc");
    expect(kept("error", "")).toBe("bc");
    expect(kept("debug", "B")).toBe("b");
    expect(kept("debug", "!b")).toBe("ac");
    expect(kept("debug", "/[ab]$/")).toBe("ab");
    expect(kept("debug", "/[/")).toBe("");
  });
});

describe("new lines", () => {
  it("are counted after the last one known, also where lines repeat", () => {
    expect(newLines(["a", "b"], ["a", "b", "c", "d"])).toBe(2);
    expect(newLines(["x", "y", "a"], ["y", "a", "b"])).toBe(1);
    expect(newLines(["p", "a", "a"], ["p", "a", "a", "a"])).toBe(1);
    expect(newLines([], ["a"])).toBe(0);
    expect(newLines(["a"], ["z", "y"])).toBe(2);
  });
});
