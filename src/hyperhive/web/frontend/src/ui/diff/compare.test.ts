import { describe, expect, it } from "vitest";
import { since } from "./compare";
import { parseDiff } from "./parse";

const file = (path: string, blob: string, body: string): string => {
  const lines = body.split("\n");
  const removed = lines.filter((line) => line.startsWith("-")).length;
  const added = lines.length - removed;
  return (
    `diff --git a/${path} b/${path}\nindex ${"0".repeat(40)}..${blob.repeat(40)} 100644\n--- a/${path}\n+++ b/${path}\n` +
    `@@ -1,${removed} +1,${added} @@\n${body}\n`
  );
};

describe("since the operator looked", () => {
  const seen = parseDiff(file("a", "1", "-x\n+y") + file("b", "2", "+one") + file("c", "3", "+gone"));

  it("a file that is as it was is not marked", () => {
    const found = since(seen, seen);
    expect([found.changed.size, found.lines, found.gone]).toEqual([0, 0, []]);
  });

  it("new lines, new files and files that went are told", () => {
    const now = parseDiff(file("a", "4", "-x\n+y\n+evil") + file("b", "2", "+one") + file("d", "5", "+new"));
    const found = since(seen, now);
    expect([...found.changed]).toEqual(["a", "d"]);
    expect(found.gone).toEqual(["c"]);
    const [a] = now.files;
    expect(a && [found.isNew(a, "-1"), found.isNew(a, "+1"), found.isNew(a, "+2")]).toEqual([false, false, true]);
    expect(found.lines).toBe(2);
  });

  it("a line that is there twice now is new once", () => {
    const now = parseDiff(file("b", "6", "+one\n+one"));
    const found = since(seen, now);
    const [b] = now.files;
    expect(b && [found.isNew(b, "+1"), found.isNew(b, "+2")]).toEqual([false, true]);
  });

  it("a removed line that is removed no more still marks its file", () => {
    const found = since(seen, parseDiff(file("a", "7", "+y") + file("b", "2", "+one") + file("c", "3", "+gone")));
    expect([...found.changed]).toEqual(["a"]);
  });
});
