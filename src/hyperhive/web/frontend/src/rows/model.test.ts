import { describe, expect, it } from "vitest";
import { RowModel } from "./model";
import type { Frame } from "./frames";

const note = (eid: number | undefined, text: string, seq?: number): Frame => ({ kind: "note", text, ...(eid === undefined ? {} : { eid }), ...(seq === undefined ? {} : { seq }) }) as Frame;
const texts = (model: RowModel): string[] => model.groups().flatMap((group) => group.rows.map((row) => (row.type === "note" ? row.text : row.type)));

describe("what a killed hive told and never kept", () => {
  it("goes where the log does not have it, and gives its number to the event that has it now", () => {
    const model = new RowModel();
    model.add([note(1, "one"), note(2, "two"), note(3, "lost"), note(undefined, "passing", 9), note(4, "lost, too")]);
    const page = [note(1, "one"), note(2, "two"), note(3, "three")];
    model.correct(page);
    model.add(page);
    expect(texts(model)).toEqual(["one", "two", "three"]);
    model.add([note(4, "four")]);
    expect(texts(model)).toEqual(["one", "two", "three", "four"]);
  });

  it("is looked for up to the last event that is loaded, where the newest page begins after it", () => {
    const model = new RowModel({ gaps: false });
    model.add([note(1, "one"), note(2, "two"), note(3, "lost")]);
    model.correct([note(2, "two"), note(3, "three")], 3);
    model.add([note(8, "eight")]);
    expect(texts(model)).toEqual(["one", "two", "three", "eight"]);
  });

  it("is everything where the log is empty", () => {
    const model = new RowModel();
    model.add([note(1, "one")]);
    model.correct([]);
    expect(texts(model)).toEqual([]);
  });
});
