import { describe, expect, it } from "vitest";
import { NOTHING, answerOf, cautionOf, choose, fieldsOf, kindOf, resolution, toolDenial } from "./model";

const one = { options: ["red", "green"], multi: false };
const many = { options: ["red", "green", "blue"], multi: true };

describe("an answer", () => {
  it("is the one option chosen last", () => {
    expect(answerOf(one, choose(choose(NOTHING, "red", false), "green", false))).toBe("green");
  });

  it("of several is joined in the order of the options, own words last", () => {
    const draft = choose(choose(NOTHING, "blue", true), "red", true);
    expect(answerOf(many, { ...draft, other: " teal " })).toBe("red, blue, teal");
    expect(answerOf(many, choose(draft, "blue", true))).toBe("red");
  });

  it("in own words goes before an option", () => {
    expect(answerOf(one, { chosen: ["red"], other: "neither" })).toBe("neither");
  });

  it("is none where nothing is chosen or written", () => {
    expect(answerOf(one, { chosen: [], other: "  " })).toBe("");
  });
});

describe("a question", () => {
  it("is told apart by what it is about", () => {
    expect(kindOf({ asker: "a", options: ["allow once"], tool: { name: "Bash", input: {} } })).toBe("tool");
    expect(kindOf({ asker: "system", options: ["release", "drop"] })).toBe("system");
    expect(kindOf({ asker: "a", options: ["x"] })).toBe("choice");
    expect(kindOf({ asker: "a", options: [] })).toBe("free");
  });

  it("that is over says how", () => {
    expect(resolution("[expired]", "ttl-watchdog").word).toBe("expired");
    expect(resolution("[cancelled by alice]", "alice")).toEqual({ word: "cancelled", by: "alice" });
    expect(resolution("blue", "operator")).toEqual({ word: "answered", by: "operator" });
  });
});

describe("a tool call", () => {
  it("shows each field of its input, texts as they are", () => {
    expect(fieldsOf({ command: "a\nb", timeout: 5, list: [1] })).toEqual([
      { name: "command", text: "a\nb", block: true },
      { name: "timeout", text: "5", block: false },
      { name: "list", text: "[\n  1\n]", block: true },
    ]);
  });

  it("is denied with the reason behind the word", () => {
    expect([toolDenial(" "), toolDenial(" too wide ")]).toEqual(["deny", "deny: too wide"]);
  });

  it("says what the core says of getting round it", () => {
    const words = "a wants to use WebFetch. `allow always` stands for every WebFetch of a; any other words deny it and are told as the reason.";
    const tool = { name: "WebFetch", input: {} };
    expect(cautionOf({ question: words, tool })).toBeUndefined();
    expect(cautionOf({ question: `${words} a steering aid, not a boundary`, tool })).toBe("a steering aid, not a boundary");
  });
});
