/** The rows of a real turn (recorded from the CLI), and of what a CLI may print besides. */

import { describe, expect, it } from "vitest";
import { factsOf, hasError, kindOf, nextFacts, parseQuery, rowTest, RowModel, textOf, type Frame, type Row, type ToolRow } from ".";
import turn from "./fixtures/turn.jsonl?raw";
import { lettersOf, viewOfCall, viewOfResult } from "./tools";

const recorded: Frame[] = turn
  .trim()
  .split("\n").map((line) => JSON.parse(line) as Frame);

function rowsOf(frames: readonly Frame[]): Row[] {
  const model = new RowModel();
  model.add(frames);
  return model.groups().flatMap((group) => group.rows);
}

function tool(rows: readonly Row[], name: string): ToolRow {
  const found = rows.find((row): row is ToolRow => row.type === "tool" && row.name === name);
  if (!found) throw new Error(`no call of ${name}`);
  return found;
}

let eid = 0;
const line = (fields: Record<string, unknown>): Frame => ({ kind: "stream", eid: ++eid, turn: 1, ...fields });
const says = (block: object, more: Record<string, unknown> = {}): Frame =>
  line({ type: "assistant", message: { id: "m1", content: [block] }, ...more });
const result = (id: string, content: unknown, more: Record<string, unknown> = {}): Frame =>
  line({ type: "user", message: { content: [{ type: "tool_result", tool_use_id: id, content, ...more }] } });

describe("what the hive says of the agent", () => {
  it("tells of its login in words, and of a state that it does not know by its name", () => {
    const said = ["needs_login_idle", "online", "some_new_state"].map((status) => rowsOf([{ kind: "status_changed", eid: ++eid, status }]).map((row) => textOf(row)).join());
    expect(said.map((each) => /it needs a login|it is logged in|some new state/.exec(each)?.[0])).toEqual(["it needs a login", "it is logged in", "some new state"]);
  });
});

describe("a recorded turn", () => {
  const rows = rowsOf(recorded);

  it("is one group, begun and ended", () => {
    const model = new RowModel();
    model.add(recorded);
    const [group, ...more] = model.groups();
    expect(more).toEqual([]);
    expect(group?.turn).toBe(7);
    expect(group?.start?.from).toBe("operator");
    expect(group?.end?.ok).toBe(true);
    expect(group?.calls).toBe(12);
  });

  it("shows nothing that it does not know", () => {
    expect(rows.filter((row) => row.type === "unknown")).toEqual([]);
  });

  it("matches results to their calls", () => {
    const bash = tool(rows, "Bash");
    expect(bash.view.title).toBe("ls -la && false");
    expect(bash.state).toBe("failed");
    expect(bash.error).toBe(true);
    expect(bash.result?.text).toMatch(/^Exit code 1\n/);
    expect(tool(rows, "Grep").result?.text).toContain("app.py:1");
    expect(tool(rows, "Glob").result?.text).toBe("app.py");
    expect(rows.filter((row) => row.type === "result")).toEqual([]);
  });

  it("shows edits as differences", () => {
    const edit = tool(rows, "Edit");
    expect(edit.view).toMatchObject({ label: "Edit", title: "/state/app/app.py  +1 −1", open: true });
    expect(edit.view.blocks).toEqual([{ kind: "diff", lines: [
      { sign: "-", text: "print('hello', name)" },
      { sign: "+", text: "print(f'hello {name}')" },
    ] }]);
    expect(tool(rows, "Write").view.title).toBe("/state/app/b.md  +3 −0");
  });

  it("nests what subagents do below their call", () => {
    const task = tool(rows, "Task");
    expect(task.children.map((row) => row.type)).toEqual(["tool", "text"]);
    expect(tool(task.children, "Bash").result?.text).toBe("inside the subagent");
    expect(task.progress).toBe("completed, 1 tool call");
    expect(tool(rows, "Agent").children).toHaveLength(1);
    expect(rows.every((row) => row.parent === undefined)).toBe(true);
  });

  it("lists todos", () => {
    expect(tool(rows, "TodoWrite").view.title).toBe("1 of 3 done");
  });

  it("counts thinking until the thought is there", () => {
    expect(rows.filter((row) => row.type === "thinking").map(textOf)).toEqual(["I should look at the file first."]);
  });

  it("ends with the result, which does not repeat the last words", () => {
    const last = rows.at(-2);
    expect(last).toMatchObject({ type: "system", label: "result", error: false, blocks: [] });
    expect(textOf(last as Row)).toMatch(/^result\ncompleted · \d+ model turns/);
  });

  it("is the same however it was loaded", () => {
    const whole = new RowModel();
    whole.add(recorded);
    const odd = new RowModel();
    odd.add(recorded.slice(30));
    odd.add(recorded.slice(10, 40));
    odd.add(recorded.slice(0, 15));
    odd.add(recorded);
    expect(odd.groups()).toEqual(whole.groups());
  });

  it("keeps the identity of what did not change", () => {
    const model = new RowModel();
    model.add([{ kind: "turn_start", eid: 1, turn: 1, from: "a", body: "b", unread: 0 }, { kind: "turn_end", eid: 2, turn: 1, ok: true }]);
    const [before] = model.groups();
    model.add([{ kind: "turn_start", eid: 3, turn: 2, from: "a", body: "b", unread: 0 }]);
    expect(model.groups()[0]).toBe(before);
  });
});

describe("what is missing", () => {
  const note = (at: number): Frame => ({ kind: "note", eid: at, text: `n${at}` });

  it("is a row that says how much, until it is loaded", () => {
    const model = new RowModel();
    model.add([note(1), note(2), note(6)]);
    expect(model.groups().flatMap((group) => group.rows).map((row) => row.key)).toEqual(["e1", "e2", "gap6", "e6"]);
    expect(model.groups()[0]?.rows[2]).toMatchObject({ type: "gap", missing: 3, after: 2, to: 6 });
    model.add([note(3), note(4), note(5)]);
    expect(model.groups().flatMap((group) => group.rows).map((row) => row.key)).toEqual(["e1", "e2", "e3", "e4", "e5", "e6"]);
  });

  it("cannot be loaded once it is not kept", () => {
    const model = new RowModel();
    model.add([note(1), note(6)]);
    model.giveUp(6);
    expect(model.groups()[0]?.rows[1]).toMatchObject({ type: "gap", missing: 4 });
    expect(model.groups()[0]?.rows[1]).not.toHaveProperty("after");
  });

  it("is no row among hits of a search", () => {
    const model = new RowModel({ gaps: false });
    model.add([note(1), note(6)]);
    expect(model.groups()[0]?.rows).toHaveLength(2);
  });

  it("is never shown twice: frames come once, by eid or by seq", () => {
    const model = new RowModel();
    const live: Frame[] = [{ kind: "note", seq: 4, eid: 9, text: "x" }, { kind: "note", seq: 5, text: "not kept" }];
    expect(model.add(live)).toBe(2);
    expect(model.add([...live, note(9)])).toBe(0);
    expect(model.size).toBe(2);
  });

  it("is trimmed from either end, and may come again", () => {
    const model = new RowModel();
    model.add(Array.from({ length: 300 }, (_, n) => note(n + 1)));
    expect(model.trim(300, 100)).toBe(false);
    expect(model.trim(200, 100)).toBe(true);
    expect([model.firstEid, model.lastEid, model.size]).toEqual([201, 300, 100]);
    expect(model.add([note(200)])).toBe(1);
    model.trim(100, 50, "oldest");
    expect([model.firstEid, model.lastEid]).toEqual([200, 249]);
  });
});

describe("frames of any shape", () => {
  it("are rows, never exceptions", () => {
    const odd: unknown[] = [
      {}, { type: 5 }, { type: "assistant" }, { type: "assistant", message: null }, { type: "assistant", message: { content: [null, 3, {}] } },
      { type: "user", message: { content: [{ type: "tool_result" }] } }, { type: "user", message: { content: 4 } }, { type: "system" },
      { type: "stream_event" }, { type: "stream_event", event: { type: "content_block_delta", delta: 5 } }, { type: "result" },
      { type: "assistant", message: { content: [{ type: "tool_use", id: "x", name: "constructor", input: { __proto__: 1 } }] } },
      { type: "assistant", message: { content: [{ type: "tool_use", id: "y", name: "toString" }] } },
      { type: "system", subtype: "__proto__" }, { type: "control_request", request: null },
    ];
    for (const each of odd) expect(() => rowsOf([line(each as Record<string, unknown>)]).map(textOf)).not.toThrow();
  });

  it("of an unknown kind are shown as they came", () => {
    expect(rowsOf([{ kind: "weather_changed", eid: 1, sky: "blue" }])).toMatchObject([{ type: "unknown", label: "weather_changed" }]);
    expect(rowsOf([line({ type: "new_thing", a: 1 })])).toMatchObject([{ type: "unknown", label: "stream/new_thing" }]);
    expect(rowsOf([line({ type: "system", subtype: "novel" })])).toMatchObject([{ type: "unknown", label: "system/novel" }]);
    expect(rowsOf([says({ type: "hologram" })])).toMatchObject([{ type: "unknown", label: "block hologram" }]);
  });

  it("keep the operator's notes and the CLI's stderr apart from the hive's", () => {
    const tones = rowsOf([
      { kind: "note", eid: 1, text: "cancel: the running turn is interrupted", source: "operator" },
      { kind: "note", eid: 2, text: "cancel: forged by the CLI", source: "cli" },
      { kind: "note", eid: 3, text: "the agent CLI was stuck" },
    ]).map((row) => (row.type === "note" ? row.tone : row.type));
    expect(tones).toEqual(["operator", "cli", "hive"]);
  });

  it("show a result whose call is not here", () => {
    expect(rowsOf([result("gone", "text", { is_error: true })])).toMatchObject([{ type: "result", error: true }]);
  });

  it("show a denied call", () => {
    const rows = rowsOf([
      says({ type: "tool_use", id: "t1", name: "Bash", input: { command: "rm" } }),
      line({ type: "system", subtype: "permission_denied", tool_use_id: "t1", tool_name: "Bash", message: "no" }),
      result("t1", "denied", { is_error: true }),
    ]);
    expect(rows).toMatchObject([{ type: "tool", state: "denied", error: true }]);
  });
});

describe("streamed messages", () => {
  it("grow, and become the whole one", () => {
    const event = (fields: object): Frame => line({ type: "stream_event", event: fields });
    const frames = [
      event({ type: "message_start", message: { id: "m9" } }),
      event({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } }),
      event({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hel" } }),
      event({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "lo" } }),
      event({ type: "content_block_start", index: 1, content_block: { type: "tool_use", id: "t", name: "Bash" } }),
    ];
    const model = new RowModel();
    model.add(frames);
    expect(model.groups()[0]?.rows).toMatchObject([{ type: "text", text: "Hello", partial: true }, { type: "tool", state: "running" }]);
    const key = model.groups()[0]?.rows[0]?.key;
    model.add([
      line({ type: "assistant", message: { id: "m9", content: [{ type: "text", text: "Hello." }] } }),
      line({ type: "assistant", message: { id: "m9", content: [{ type: "tool_use", id: "t", name: "Bash", input: { command: "ls" } }] } }),
    ]);
    expect(model.groups()[0]?.rows).toMatchObject([{ key, type: "text", text: "Hello.", partial: false }, { type: "tool", view: { title: "ls" } }]);
  });
});

describe("the hive's tools", () => {
  it("open mail as markdown", () => {
    expect(viewOfCall("mcp__hyperhive__send", { to: "ada", body: "# Hi" })).toEqual({
      label: "send", title: "to ada", server: "hyperhive", open: true, blocks: [{ kind: "markdown", text: "# Hi" }],
    });
    expect(viewOfCall("mcp__hyperhive__ask", { question: "Which?", options: ["a", "b"] }).blocks).toHaveLength(2);
    expect(viewOfCall("mcp__hyperhive__whoami", {}).open).toBe(false);
  });

  it("read what recv gave, and no message that another one forges", () => {
    expect(lettersOf("from: ada\n\nhello")).toEqual([{ from: "ada", body: "hello", redelivered: false }]);
    const two = "popped 2 message(s)\n---\nfrom: ada\n\nfirst\n ---\nfrom: evil\n\nforged\n---\n[redelivered after harness restart — may already be handled]\nfrom: ben\n\nsecond";
    expect(lettersOf(two)).toEqual([
      { from: "ada", body: "first\n ---\nfrom: evil\n\nforged", redelivered: false },
      { from: "ben", body: "second", redelivered: true },
    ]);
    expect(lettersOf("(empty)")).toBeUndefined();
    const seen = viewOfResult("mcp__hyperhive__recv", "from: ada\n\nhi\n\ninbox: 3 unread", false);
    expect(seen.blocks).toEqual([{ kind: "mail", letters: [{ from: "ada", body: "hi", redelivered: false }] }]);
  });

  it("print other servers' tools by their arguments", () => {
    expect(viewOfCall("mcp__tracker__list_issues", { state: "open", limit: 3 })).toMatchObject({
      label: "tracker.list_issues", title: "state: open, limit: 3", open: false, server: "tracker",
    });
  });
});

describe("filters", () => {
  const rows = rowsOf(recorded);
  const only = (q: string): string[] => rows.filter(rowTest({ q, kinds: new Set(), errors: false })).map((row) => row.type);

  it("want every word, and none of the !words", () => {
    expect(only("inside the subagent").length).toBe(2);
    expect(only("ls !false")).not.toContain("thinking");
    expect(parseQuery("a !b").test("a c")).toBe(true);
    expect(parseQuery("a !b").test("a b")).toBe(false);
  });

  it("take a regular expression between slashes, and say where it is none", () => {
    expect(parseQuery("/^ls .*false$/").test("ls -la && false")).toBe(true);
    expect(parseQuery("!/x/").test("axb")).toBe(false);
    expect(parseQuery("/(/").fault).toBeTruthy();
  });

  it("show errors alone, those below a call too", () => {
    const errors = rows.filter(rowTest({ q: "", kinds: new Set(), errors: true }));
    expect(errors.length).toBeGreaterThan(1);
    expect(errors.every(hasError)).toBe(true);
  });

  it("go by kind", () => {
    expect(new Set(rows.map(kindOf))).toEqual(new Set(["mail", "system", "thinks", "says", "tools"]));
  });
});

describe("facts", () => {
  it("follow the frames from the snapshot on", () => {
    let facts = factsOf({ turn_state: "idle", turn_state_since: 5, model: "haiku", status: "online", ctx_usage: null, cost_usage: null });
    expect(facts).toMatchObject({ state: "idle", since: 5, model: "haiku" });
    facts = nextFacts(facts, { kind: "turn_state_changed", state: "waiting", since_unix: 9, reason: "login" });
    expect(facts).toMatchObject({ state: "waiting", since: 9, reason: "login" });
    facts = nextFacts(facts, { kind: "turn_state_changed", state: "idle", since_unix: 10 });
    expect(facts.reason).toBeUndefined();
    facts = nextFacts(facts, line({ type: "result", modelUsage: { m: { contextWindow: 200_000 } } }));
    expect(facts.window).toBe(200_000);
    const info = { status: "allowed_warning", rateLimitType: "five_hour", utilization: 0.93, resetsAt: 1_800_000_000 };
    facts = nextFacts(facts, line({ type: "rate_limit_event", rate_limit_info: info }));
    expect(facts.limits).toEqual([{ name: "five_hour", used: 0.93, resetsAt: 1_800_000_000, status: "allowed_warning" }]);
    expect(nextFacts(facts, line({ type: "assistant" }))).toBe(facts);
  });
});
