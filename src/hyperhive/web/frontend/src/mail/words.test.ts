import { describe, expect, it } from "vitest";
import { addressed, hiveWords, snoozeUntil, summary } from "./words";

describe("mail of the hive's own", () => {
  it("is told in words, with the way to what it is about", () => {
    expect(hiveWords('{"event":"approval_resolved","id":4,"agent":"bob","commit_ref":"","status":"failed","note":"no such package"}')).toEqual({
      text: "Approval 4 of bob is failed: no such package", href: "/approvals/4",
    });
    expect(hiveWords('{"event":"container_crash","agent":"bob"}')?.text).toBe("bob stopped without being asked to");
  });

  it("of an unknown kind, or no event at all, stays what it is", () => {
    expect([hiveWords('{"event":"new_kind"}'), hiveWords('{"a":1}'), hiveWords("{oops"), hiveWords("hello")]).toEqual([undefined, undefined, undefined, undefined]);
    expect(summary("system", '{"event":"new_kind"}')).toBe('{"event":"new_kind"}');
  });

  it("of an agent is shown without the marks of markdown", () => {
    expect(summary("bob", "It is **done**, see `x`.\n\n| a | b |\n| --- | :-: |\n| 1 | 2 |")).toBe("It is done, see x. | a | b | | 1 | 2 |");
  });

  it("is believed of the system alone", () => {
    expect(summary("mallory", '{"event":"killed","agent":"bob"}')).toBe('{"event":"killed","agent":"bob"}');
  });
});

describe("a line with a name in front", () => {
  it("is to that name, where there is one", () => {
    expect(addressed("@bob  look here", ["bob"])).toEqual({ to: "bob", body: "look here" });
    expect(addressed("@bob: look", ["bob"])).toEqual({ to: "bob", body: "look" });
    expect(addressed("@eve look", ["bob"])).toEqual({ body: "@eve look" });
    expect(addressed("mail @bob", ["bob"])).toEqual({ body: "mail @bob" });
  });
});

describe("a snoozed message", () => {
  it("comes back in an hour, tomorrow at nine, or next Monday at nine", () => {
    const friday = new Date(2026, 10, 20, 17, 0);
    expect(snoozeUntil("hour", friday) * 1000 - friday.getTime()).toBe(3_600_000);
    expect(new Date(snoozeUntil("tomorrow", friday) * 1000)).toEqual(new Date(2026, 10, 21, 9, 0));
    expect(new Date(snoozeUntil("week", friday) * 1000)).toEqual(new Date(2026, 10, 23, 9, 0));
    expect(new Date(snoozeUntil("week", new Date(2026, 10, 23, 8, 0)) * 1000)).toEqual(new Date(2026, 10, 30, 9, 0));
  });
});
