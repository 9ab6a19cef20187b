import { describe, expect, it } from "vitest";
import { escapeOf, hiddenIn, isHidden, nameOf, parts } from "./hidden";

const text = (line: string): string => parts(line).map((part) => part.text).join("");

describe("hidden characters", () => {
  it("leave no code point that acts or hides, and give every line back", () => {
    const bad = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u;
    for (let from = 0; from <= 0x10ffff; from += 0x400) {
      let line = "a";
      for (let code = from; code < from + 0x400; code += 1) {
        if (code !== 9 && code !== 10) line += `${String.fromCodePoint(code)}x`;
      }
      const made = parts(line);
      expect(bad.test(made.map((part) => part.text).join("")), `from U+${from.toString(16)}`).toBe(false);
      expect(made.map((part) => part.raw).join("") === line).toBe(true);
    }
  });

  it("cannot be forged: an escape that the file spells out is told apart", () => {
    expect(text("\\u{202e}")).toBe("\\u{5c}u{202e}");
    expect(text("\u202e")).toBe("\\u{202e}");
  });

  it("are parts of their own, with a name", () => {
    expect(parts("if a\u202e")).toEqual([
      { text: "if a", raw: "if a", kind: "plain" },
      { text: "\\u{202e}", raw: "\u202e", kind: "hidden" },
    ]);
    expect(nameOf("\u202e")).toBe("U+202E right-to-left override");
    expect(nameOf("\u0007")).toBe("U+0007 control character");
    expect(escapeOf("\u{e0041}")).toBe("\\u{e0041}");
  });

  it("are counted, but for newlines and tabs", () => {
    expect([...hiddenIn("a\u200bb\u200b\tc\n\u202e")]).toEqual([["\u200b", 2], ["\u202e", 1]]);
    expect(hiddenIn("plain, größe, 漢字, 👍 ok").size).toBe(0);
  });

  it("count fillers, variation selectors and odd spaces, which no category names", () => {
    for (const char of ["\u3164", "\ufe0f", "\u{e0100}", "\u00a0", "\u2800"]) expect(isHidden(char)).toBe(true);
    expect(isHidden("\t") || isHidden(" ") || isHidden("é")).toBe(false);
  });

  it("leave words of one script alone and mark the stranger in a Latin one", () => {
    expect(parts("p\u0430ypal").map((part) => part.kind)).toEqual(["plain", "stranger", "plain"]);
    expect(parts("привет мир").every((part) => part.kind === "plain")).toBe(true);
    expect(parts("naïve größe").every((part) => part.kind === "plain")).toBe(true);
  });
});
