// The small pure modules: router, keys, fuzzy, sse, visible, format, completion.
import { beforeAll, describe, expect, it, vi } from "vitest";
import { completion } from "./complete";
import { bytes, duration, durationLong, moment, money, tokens } from "./format";
import { rank, score } from "./fuzzy";
import { SseParser } from "./sse";
import { hidesSomething, oneLine, visible } from "./visible";

vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined, removeItem: () => undefined });
vi.stubGlobal("addEventListener", () => undefined);
vi.stubGlobal("document", { addEventListener: () => undefined, visibilityState: "visible" });

describe("the router", async () => {
  const { format, match, parse } = await import("./router");
  const { find, moved } = await import("../app/routes");

  it("matches whole paths with their params, and nothing else", () => {
    expect(match("/agents/:name", "/agents/a%20b")).toEqual({ name: "a b" });
    expect(match("/agents/:name", "/agents/")).toBeUndefined();
    expect(match("/agents/:name", "/agents/x/y")).toBeUndefined();
    expect(match("/agents/:name", "/agents/%ff")).toBeUndefined();
    expect(match("/", "/")).toEqual({});
  });

  it("keeps path, query and hash through parse and format", () => {
    for (const url of ["/", "/agents/x/t/3#e12", "/messages?agent=a&q=b+c", "/search?q=%26%3D"]) expect(format(parse(url))).toBe(url);
  });

  it("knows every route of the contract", () => {
    const urls = "/ /needs-you /approvals /approvals/3 /questions /questions/4 /inbox /messages /search /agents/x /agents/x/t/9 /agents/x/stats /stats /config/x /logs/x /audit /dead /meta /sessions";
    for (const url of urls.split(" ")) expect(find(url), url).toBeDefined();
    expect(find("/nothing/here/at/all")).toBeUndefined();
    expect(find("/agents/x/stats")!.params).toEqual({ name: "x" });
    expect(moved("/a/x/t/3")).toBe("/agents/x/t/3");
  });
});

describe("keys", async () => {
  const { KeyMatcher, spell } = await import("./keys");
  const press = (key: string, more: object = {}) => spell({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more });
  const action = (keys: string, when?: () => boolean) => ({ id: keys, title: keys, keys, run: () => undefined, ...(when && { when }) });

  it("spells what is pressed as the registry does", () => {
    expect(press("k", { metaKey: true })).toBe("mod+k");
    expect(press("?", { shiftKey: true })).toBe("?");
    expect(press("G", { shiftKey: true })).toBe("shift+g");
    expect(press("Enter", { ctrlKey: true })).toBe("mod+enter");
    expect(press(" ")).toBe("space");
  });

  it("waits for the second key of a sequence, for a while", () => {
    const keys = new KeyMatcher();
    const offered = [action("g a"), action("a"), action("G")];
    expect(keys.press("g", 0, offered)).toBe("wait");
    expect(keys.press("a", 500, offered)).toMatchObject({ keys: "g a" });
    expect(keys.press("g", 1000, offered)).toBe("wait");
    expect(keys.press("a", 3000, offered)).toMatchObject({ keys: "a" });
    expect(keys.press("shift+g", 4000, offered)).toMatchObject({ keys: "G" });
    expect(keys.press("q", 5000, offered)).toBeUndefined();
  });

  it("passes over what cannot be done now, and takes the newest of two", () => {
    const keys = new KeyMatcher();
    const later = { ...action("j"), id: "later" };
    expect(keys.press("x", 0, [action("x", () => false)])).toBeUndefined();
    expect(keys.press("j", 0, [action("j"), later])).toBe(later);
  });
});

describe("fuzzy", () => {
  it("finds subsequences and prefers whole words and beginnings", () => {
    expect(score("zz", "alice")).toBeNull();
    expect(rank("stop", ["Restop it", "Stop alice", "s t o p"], (each) => each)[0]).toBe("Stop alice");
    expect(rank("gts", ["Go to stats", "Agents"], (each) => each)[0]).toBe("Go to stats");
    expect(rank("", ["b", "a"], (each) => each)).toEqual(["b", "a"]);
  });
});

describe("event streams", () => {
  it("come out the same however they are cut", () => {
    const text = 'id: e:1\ndata: {"a":1}\n\n: comment\n\ndata: x\r\ndata: y\r\n\r\nid:e:2\ndata:z\n\n';
    const whole = [{ id: "e:1", data: '{"a":1}' }, { data: "x\ny" }, { id: "e:2", data: "z" }];
    for (const size of [1, 2, 3, 7, 1000]) {
      const parser = new SseParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      expect(events).toEqual(whole);
    }
  });
});

describe("what does not show", () => {
  it("is made visible: controls, bidi, zero widths, tags, terminal sequences", () => {
    expect(visible("a\u202eb\u200bc\u0007\u001b[31m\u{e0041}\r\n\t")).toBe("a\\u{202e}b\\u{200b}c\\u{7}\\e[31m\\u{e0041}\\r\n\t");
    expect(oneLine("a\r\nb\tc")).toBe("a b c");
  });
  it("leaves text of any script, and emoji that are joined, alone", () => {
    for (const text of ["Grüße, 世界 مرحبا", "👩‍💻 ❤️‍🔥", "naïve — “quotes”"]) {
      expect(visible(text)).toBe(text);
      expect(hidesSomething(text)).toBe(false);
    }
    expect(hidesSomething("a\u200db")).toBe(true);
  });
});

describe("numbers", () => {
  it("are short, and an unknown price is no zero", () => {
    expect([0, 59, 61, 7300, 200_000].map(duration)).toEqual(["0s", "59s", "1m", "2h", "2d"]);
    expect([0, 0.32, 65, 7800, 90_000].map(durationLong)).toEqual(["0s", "0.3s", "1m 05s", "2h 10m", "1d 1h"]);
    expect([0, 812, 12_340, 1_250_000].map(tokens)).toEqual(["0", "812", "12.3k", "1.25M"]);
    expect([undefined, 0, 0.004, 1.5, 0.0000001].map(money)).toEqual(["–", "$0.00", "$0.004", "$1.50", "<$0.0001"]);
    const noon = new Date(2026, 10, 20, 12, 0, 5).getTime() / 1000;
    expect([moment(noon, noon + 60), moment(noon - 3 * 86_400, noon)]).toEqual(["12:00:05", "11-17 12:00"]);
    expect(bytes(1536)).toBe("1.5 KB");
  });
});

describe("completion", () => {
  const commands = [{ name: "/model", hint: "" }, { name: "/compact", hint: "" }];
  it("offers names after @ and commands at the beginning", () => {
    expect(completion("hi @al", 6, ["alice", "bob"], [])).toEqual({ from: 3, to: 6, options: [{ insert: "@alice" }] });
    expect(completion("/mo", 3, [], commands)!.options[0]!.insert).toBe("/model");
    expect(completion("mail a@b", 8, ["bob"], commands)).toBeUndefined();
    expect(completion("say /mo", 7, [], commands)).toBeUndefined();
  });
});

describe("notifications", () => {
  let module: typeof import("./notifications");
  beforeAll(async () => {
    vi.doMock("./store", () => ({ needsYou: { value: [] }, hive: { value: undefined } }));
    module = await import("./notifications");
  });
  const item = (key: string) => ({ kind: "login" as const, key, agent: key, at: 0 });

  it("never tells of what was there at the start, and tells once of what came unseen for 15 s", () => {
    const notifier = new module.Notifier();
    notifier.update([item("a")], 0, false);
    expect(notifier.due(60_000)).toEqual([]);
    notifier.update([item("a"), item("b")], 100_000, false);
    expect(notifier.due(114_999)).toEqual([]);
    expect(notifier.due(115_000).map((each) => each.key)).toEqual(["b"]);
    notifier.update([item("a"), item("b")], 116_000, false);
    expect(notifier.due(200_000)).toEqual([]);
  });

  it("folds a burst, tells nothing that was seen, and withdraws what was resolved", () => {
    const notifier = new module.Notifier();
    notifier.update([], 0, false);
    notifier.update([item("a"), item("b")], 0, false);
    notifier.update([item("a"), item("b"), item("c")], 14_000, false);
    expect(notifier.due(15_000)).toHaveLength(3);
    notifier.update([item("a"), item("b"), item("c"), item("d")], 20_000, true);
    expect(notifier.due(90_000)).toEqual([]);
    expect(notifier.update([item("a")], 91_000, false).withdraw).toEqual(["b", "c", "d"]);
    notifier.update([item("a"), item("e")], 92_000, false);
    notifier.seen();
    expect(notifier.due(200_000)).toEqual([]);
  });

  it("keeps quiet hours, also over midnight", () => {
    expect(module.quiet("22:00-07:00", 23 * 60)).toBe(true);
    expect(module.quiet("22:00-07:00", 8 * 60)).toBe(false);
    expect(module.quiet("09:00-10:00", 9 * 60 + 30)).toBe(true);
    expect(module.quiet("", 0)).toBe(false);
  });
});
