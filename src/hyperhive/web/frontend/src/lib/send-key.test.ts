import { expect, it } from "vitest";
import { keptFor, keyIn } from "./send-key";

it("is the same for every try of one message, and another for another text or recipient", () => {
  const first = keptFor("", "bob", "look at this");
  expect(keyIn(first)).toMatch(/^web-[0-9a-f]{32}$/);
  expect(keptFor(first, "bob", "look at this")).toBe(first);
  expect(keyIn(keptFor(first, "bob", "look at that"))).not.toBe(keyIn(first));
  expect(keyIn(keptFor(first, "eve", "look at this"))).not.toBe(keyIn(first));
});

it("is made anew where what was kept is of another kind", () => {
  expect(keyIn(keptFor("0b9f-an-older-key", "bob", "hi"))).toMatch(/^web-/);
});
