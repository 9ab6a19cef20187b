import { describe, expect, it } from "vitest";
import type { Diff, DiffFile } from "./parse";
import { ROWS_AT_ONCE, openAtFirst, rowsOf } from "./tiers";

const file = (path: string, lines: number): DiffFile => ({
  path, status: "modified", oldBlob: "", newBlob: "", binary: false, added: lines, removed: 0, size: lines,
  hunks: [{ oldStart: 1, newStart: 1, section: "", lines: Array.from({ length: lines }, () => ({ kind: "add" as const, text: "" })) }],
});
const diff = (...files: DiffFile[]): Diff => ({ files, strays: [], added: 0, removed: 0, size: 0 });

describe("what is open at first", () => {
  it("is all of a small diff", () => {
    expect(openAtFirst(diff(file("a", 10), file("b", 10))).size).toBe(2);
  });

  it("ends where there are enough rows, but has the first file whatever its size", () => {
    const files = Array.from({ length: 500 }, (_, index) => file(`f${index}`, 20));
    const open = files.filter((one) => openAtFirst(diff(...files)).has(one.path));
    expect(open.reduce((sum, one) => sum + rowsOf(one), 0)).toBeLessThanOrEqual(ROWS_AT_ONCE);
    expect(open.length).toBeGreaterThan(10);
    expect(openAtFirst(diff(file("huge", 100_000))).size).toBe(1);
  });
});
