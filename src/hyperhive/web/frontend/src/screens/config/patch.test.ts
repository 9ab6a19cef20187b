import { describe, expect, it } from "vitest";
import { parseDiff } from "../../ui/diff/parse";
import { type Files, diffOf, undone } from "./patch";

const files = (all: Record<string, string>): Files => new Map(Object.entries(all));

describe("a change undone", () => {
  it("gives the files as they were: changed, new and deleted ones", () => {
    const long = Array.from({ length: 40 }, (_, n) => `line ${n}`);
    const before = files({ "agent.toml": 'model = "a"\n', long: `${long.join("\n")}\n`, gone: "x\ny\n" });
    const changed = long.with(3, "three").with(30, "thirty");
    const after = files({ "agent.toml": 'model = "b"\nprompt = "p"\n', long: `${changed.toSpliced(10, 2).join("\n")}\n`, fresh: "new\n" });
    const found = undone(after, parseDiff(diffOf(before, after)));
    expect(found && Object.fromEntries(found)).toEqual(Object.fromEntries(before));
  });

  it("minds a file's last newline", () => {
    const text = "diff --git a/x b/x\nindex 0..1\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n\\ No newline at end of file\n+new\n";
    expect(undone(files({ x: "new\n" }), parseDiff(text))?.get("x")).toBe("old");
    const back = "diff --git a/x b/x\nindex 0..1\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n\\ No newline at end of file\n";
    expect(undone(files({ x: "new" }), parseDiff(back))?.get("x")).toBe("old\n");
  });

  it("is not guessed where the text is not what the diff says, or none", () => {
    const diff = parseDiff(diffOf(files({ x: "a\n" }), files({ x: "b\n" })));
    expect(undone(files({ x: "c\n" }), diff)).toBeUndefined();
    expect(undone(files({}), diff)).toBeUndefined();
  });
});

describe("the diff between files", () => {
  it("is one that is parsed as any other, and empty where nothing differs", () => {
    const diff = parseDiff(diffOf(files({ a: "1\n2\n", b: "same\n" }), files({ a: "1\n3\n", b: "same\n" })));
    expect(diff.files.map((file) => [file.path, file.added, file.removed])).toEqual([["a", 1, 1]]);
    expect(diff.strays).toEqual([]);
    expect(diffOf(files({ a: "1" }), files({ a: "1" }))).toBe("");
  });
});
