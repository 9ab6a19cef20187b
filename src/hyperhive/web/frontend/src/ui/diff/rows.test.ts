import { describe, expect, it } from "vitest";
import { parseDiff } from "./parse";
import { splitRows, unifiedRows, wordSpans } from "./rows";

const ID = "a".repeat(40);
const hunk = (body: string) => {
  const lines = body.trimEnd().split("\n");
  const count = (marks: string) => lines.filter((line) => marks.includes(line[0] as string)).length;
  const head = `diff --git a/x b/x\nindex ${ID}..${ID} 100644\n--- a/x\n+++ b/x\n`;
  const text = `${head}@@ -1,${count(" -")} +1,${count(" +")} @@\n${lines.join("\n")}\n`;
  const found = parseDiff(text).files[0]?.hunks[0];
  if (!found) throw new Error("no hunk");
  return found;
};
const plain = { ignoreWhitespace: false };

describe("rows", () => {
  it("keep the order of the diff in one column", () => {
    const rows = unifiedRows(hunk(" a\n-b\n-c\n+d\n e\n+f\n"), plain);
    expect(rows.map((row) => row.line.text).join("")).toBe("abcdef");
  });

  it("stand side by side in two", () => {
    const rows = splitRows(hunk(" a\n-b\n-c\n+d\n e\n"), plain);
    expect(rows.map((row) => [row.left?.line.text, row.right?.line.text])).toEqual([
      ["a", "a"],
      ["b", "d"],
      ["c", undefined],
      ["e", "e"],
    ]);
  });

  it("hide what only its whitespace changed, on demand, with both line numbers", () => {
    const given = hunk(" a\n-  b\n-c\n+b \n+d\n");
    expect(unifiedRows(given, plain).map((row) => row.line.kind)).toEqual(["same", "del", "del", "add", "add"]);
    const rows = unifiedRows(given, { ignoreWhitespace: true });
    expect(rows.map((row) => row.line.kind)).toEqual(["same", "same", "del", "add"]);
    expect(rows[1]?.line).toMatchObject({ oldNo: 2, newNo: 2, text: "b " });
  });
});

describe("words", () => {
  it("that differ are found between what is common", () => {
    expect(wordSpans('network = "none"', 'network = "out"')).toEqual([[[11, 15]], [[11, 14]]]);
    expect(wordSpans("a b", "a big b")).toEqual([[], [[2, 6]]]);
  });

  it("are not marked where the lines have nothing in common", () => {
    expect(wordSpans("one", "two")).toEqual([[], []]);
    expect(wordSpans("  x", "  y")).toEqual([[], []]);
  });
});
