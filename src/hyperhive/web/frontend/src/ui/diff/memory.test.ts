import { describe, expect, it } from "vitest";
import { EMPTY, denial, forget, forgetOthers, isViewed, recall, remember, withComment, withViewed } from "./memory";
import type { DiffFile } from "./parse";

class Box {
  readonly kept = new Map<string, string>();
  getItem = (key: string): string | null => this.kept.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.kept.set(key, value);
  removeItem = (key: string): void => void this.kept.delete(key);
  key = (index: number): string | null => [...this.kept.keys()][index] ?? null;
  get length(): number {
    return this.kept.size;
  }
}

const file = (path: string, newBlob: string): DiffFile => ({
  path, newBlob, oldBlob: "0", status: "modified", binary: false, hunks: [], added: 1, removed: 0, size: 1,
});

describe("what is remembered of a proposal", () => {
  it("outlasts the page, and goes with the approval", () => {
    const box = new Box();
    const memory = withComment(withViewed(EMPTY, file("a", "1"), true), { path: "a", mark: "+3", line: "x", text: "why?" });
    remember(7, memory, box);
    expect(recall(7, box)).toEqual(memory);
    forget(7, box);
    expect(recall(7, box)).toEqual(EMPTY);
  });

  it("goes also where it was decided elsewhere", () => {
    const box = new Box();
    for (const id of [1, 2, 3]) remember(id, withViewed(EMPTY, file("a", "1"), true), box);
    box.setItem("hive.secret", "s");
    forgetOthers([2], box);
    expect([...box.kept.keys()]).toEqual(["hive.approval.2", "hive.secret"]);
  });

  it("resets the mark of the file that changed, and no other", () => {
    const memory = withViewed(withViewed(EMPTY, file("a", "1"), true), file("b", "1"), true);
    expect([isViewed(memory, file("a", "2")), isViewed(memory, file("b", "1"))]).toEqual([false, true]);
    expect(isViewed(withViewed(memory, file("b", "1"), false), file("b", "1"))).toBe(false);
  });

  it("puts the reason first and each comment with its line into the denial", () => {
    let memory = { ...EMPTY, reason: "not yet " };
    memory = withComment(memory, { path: "b", mark: "-2", line: "old", text: "keep this" });
    memory = withComment(memory, { path: "a", mark: "+10", line: "ten", text: "no" });
    memory = withComment(memory, { path: "a", mark: "+9", line: "nine", text: "draft" });
    memory = withComment(memory, { path: "a", mark: "+9", line: "nine", text: "also no" });
    expect(denial(memory)).toBe("not yet\n\na, line 9:\n> nine\nalso no\n\na, line 10:\n> ten\nno\n\nb, line 2 (removed):\n> old\nkeep this");
    expect(denial(withComment(EMPTY, { path: "a", mark: "+1", line: "", text: " " }))).toBe("");
  });

  it("is none where the storage is shut, full or holds nonsense", () => {
    const box = new Box();
    box.kept.set("hive.approval.1", "{]");
    box.kept.set("hive.approval.2", '{"viewed":1}');
    expect([recall(1, box), recall(2, box)]).toEqual([EMPTY, EMPTY]);
    const shut = { getItem: () => null, removeItem: () => {}, setItem: () => { throw new Error("quota"); } };
    expect(() => remember(1, EMPTY, shut)).not.toThrow();
  });

  it("keeps the hash alone of a diff that is too long to keep", () => {
    const box = new Box();
    remember(1, { ...EMPTY, seen: { sha: "s", digest: "d", text: "x".repeat(300_000) } }, box);
    expect(recall(1, box).seen).toEqual({ sha: "s", digest: "d" });
  });
});
