/**
 * Frames, one after the other, into rows: what belongs to which turn, which result to which call, what is a subagent's.
 *
 * Frames come in their order and once each; `model.ts` sees to that. A kind that is not known becomes a row of its own.
 * The few known ones that make no row are listed in `SILENT` (docs/terminal-rendering.md says why).
 */

import { contentOf, list, num, obj, plain, str, timeOf, type Frame, type Json } from "./frames";
import { noteTone, resultRow, systemRow, type Said } from "./said";
import { viewOfCall, viewOfResult } from "./tools";
import { change, touch, type Group, type Leaf, type Node } from "./tree";
import type { Row, ToolRow } from "./types";

/** Known, and no row: the header shows them, or they say nothing to a person. */
const SILENT: ReadonlySet<string> = new Set([
  "token_usage_changed",
  "stream/command_lifecycle",
  "stream/control_response",
  "system/background_tasks_changed",
  "system/task_updated",
]);

type Sort = "text" | "thinking";

/** What the CLI streams of one message before it is whole. */
interface Partial {
  message: string;
  nodes: Map<number, Node>;
}

export class Fold {
  readonly groups: Group[] = [];
  readonly calls = new Map<string, Node>();
  private readonly partials = new Map<string, Partial>();
  private readonly keys = new Set<string>();
  private thinking: Node | undefined;

  constructor(private readonly gaps: boolean, private readonly lost: ReadonlySet<number>) {}

  private lastEid: number | undefined;
  private frame!: Frame;
  private arrived: number | undefined;
  private part = 0;

  /** Take in the next frame. `arrived`: unix seconds, where it bears no time of its own. */
  add(frame: Frame, arrived?: number): void {
    this.frame = frame;
    this.arrived = arrived;
    this.part = 0;
    this.seeGap();
    if (frame.kind === "stream") this.stream(frame);
    else this.event(frame);
  }

  private seeGap(): void {
    const eid = this.frame.eid;
    if (eid === undefined) return;
    const missing = this.lastEid === undefined ? 0 : eid - this.lastEid - 1;
    if (this.gaps && missing > 0) {
      const row: Leaf = { ...this.base(), key: `gap${eid}`, raw: [], type: "gap", missing, to: eid,
        ...(this.lost.has(eid) ? {} : { after: this.lastEid as number }) };
      this.place(row);
      this.part = 0;
    }
    this.lastEid = eid;
  }

  // --- placing ------------------------------------------------------------------------------------------------------

  private base(error = false): Omit<Extract<Leaf, { type: "gap" }>, "type" | "missing"> {
    const { eid, seq, turn } = this.frame;
    const at = timeOf(this.frame, this.arrived);
    const name = eid !== undefined ? `e${eid}` : `s${seq ?? "?"}`;
    return {
      key: this.part++ ? `${name}.${this.part - 1}` : name,
      ...(eid === undefined ? {} : { eid }),
      ...(seq === undefined ? {} : { seq }),
      ...(turn === undefined ? {} : { turn }),
      ...(at === undefined ? {} : { at }),
      error,
      raw: [this.frame],
    };
  }

  private place(row: Leaf, parentId = ""): Node {
    const above = parentId ? this.calls.get(parentId) : undefined;
    const group = above?.group ?? this.groupFor(row);
    const node: Node = { row: parentId ? { ...row, parent: parentId } : row, children: [], group, ...(above ? { above } : {}) };
    (above ? above.children : group.nodes).push(node);
    touch(node);
    return node;
  }

  private groupFor(row: Leaf): Group {
    const last = this.groups.at(-1);
    const turn = this.frame.turn;
    const same = turn === undefined ? !last?.ended || last.turn === undefined : last?.turn === turn;
    if (last && same && row.type !== "turn_start") return last;
    const first = turn === undefined ? `b-${row.key}` : `t${turn}`;
    const key = this.keys.has(first) ? `${first}-${row.key}` : first;
    this.keys.add(key);
    const group: Group = { key, nodes: [], ended: false, ...(turn === undefined ? {} : { turn }) };
    this.groups.push(group);
    return group;
  }

  private say(said: Said, parentId = ""): void {
    this.place({ ...this.base(said.error), type: "system", label: said.label, title: said.title, blocks: said.blocks }, parentId);
  }

  private unknown(label: string, value: unknown, parentId = ""): void {
    this.place({ ...this.base(), type: "unknown", label, text: plain(value) }, parentId);
  }

  // --- the hive's own events ----------------------------------------------------------------------------------------

  private event(frame: Frame): void {
    switch (frame.kind) {
      case "turn_start":
        this.place({ ...this.base(), type: "turn_start", from: str(frame["from"], "?"), body: str(frame["body"]),
          unread: num(frame["unread"]) ?? 0 });
        return;
      case "turn_end": {
        const ok = frame["ok"] === true;
        const note = str(frame["note"]);
        const node = this.place({ ...this.base(!ok), type: "turn_end", ok, ...(note ? { note } : {}) });
        this.close(node.group, ok);
        return;
      }
      case "note": {
        const tone = noteTone(frame);
        this.place({ ...this.base(), type: "note", tone, text: str(frame["text"]) });
        return;
      }
      default:
        this.other(frame.kind, frame, frame);
    }
  }

  private close(group: Group, ok: boolean): void {
    group.ended = true;
    const end = (node: Node): void => {
      if (node.row.type === "tool" && node.row.state === "running") change(node, { ...node.row, state: ok ? "done" : "failed" });
      node.children.forEach(end);
    };
    group.nodes.forEach(end);
    this.partials.clear();
    this.thinking = undefined;
  }

  private other(name: string, frame: Frame, value: Json): void {
    if (SILENT.has(name)) return;
    const said = systemRow(name, value);
    if (said === "nothing") return;
    const parentId = str(frame["parent_tool_use_id"]);
    if (said) this.say(said, parentId);
    else {
      const { kind: _k, seq: _s, eid: _e, turn: _t, ts: _ts, ...rest } = frame;
      this.unknown(name, rest, parentId);
    }
  }

  // --- the CLI's lines ----------------------------------------------------------------------------------------------

  private stream(frame: Frame): void {
    const type = str(frame["type"], "?");
    const parentId = str(frame["parent_tool_use_id"]);
    if (type === "assistant") this.assistant(frame, parentId);
    else if (type === "user") this.user(frame, parentId);
    else if (type === "stream_event") this.partial(obj(frame["event"]), parentId);
    else if (type === "result") this.result(frame);
    else if (type === "system") this.system(frame);
    else this.other(`stream/${type}`, frame, frame);
  }

  private assistant(frame: Frame, parentId: string): void {
    const message = obj(frame["message"]);
    const error = frame["is_api_error_message"] === true || frame["error"] !== undefined;
    const content = message["content"];
    const blocks = typeof content === "string" ? [{ type: "text", text: content }] : list(content);
    for (const block of blocks.map(obj)) {
      const type = str(block["type"], "?");
      if (type === "text" || type === "thinking" || type === "redacted_thinking") {
        const sort: Sort = type === "text" ? "text" : "thinking";
        const text = type === "redacted_thinking" ? "(not shown by the model)" : str(block[type]);
        this.words(sort, text, error, str(message["id"]), parentId, frame["aborted"] === true);
      } else if (type === "tool_use" || type === "server_tool_use" || type === "mcp_tool_use") {
        this.call(block, str(message["id"]), parentId);
      } else if (type.endsWith("tool_result")) this.toolResult(block, frame, parentId);
      else this.unknown(`block ${type}`, block, parentId);
    }
  }

  private words(sort: Sort, text: string, error: boolean, id: string, parentId: string, aborted: boolean): void {
    if (sort === "thinking") this.forgetThinking();
    const begun = this.takePartial(id, parentId, sort);
    const leaf: Leaf = { ...(begun ? { ...this.base(error), key: begun.row.key } : this.base(error)), type: sort, text, partial: aborted };
    if (begun) change(begun, parentId ? { ...leaf, parent: parentId } : leaf);
    else if (text.trim() !== "") this.place(leaf, parentId);
  }

  private call(block: Json, messageId: string, parentId: string): void {
    const id = str(block["id"]);
    const name = str(block["name"], "?");
    const view = viewOfCall(name, block["input"]);
    const begun = this.takePartial(messageId, parentId, "tool");
    const leaf: Leaf = { ...this.base(), type: "tool", id, name, view, state: "running" };
    let node = begun;
    if (node) change(node, { ...leaf, key: node.row.key, ...(parentId ? { parent: parentId } : {}) });
    else node = this.place(leaf, parentId);
    if (id) this.calls.set(id, node);
  }

  private user(frame: Frame, parentId: string): void {
    const content = obj(frame["message"])["content"];
    if (typeof content === "string") {
      this.input(content, frame, parentId);
      return;
    }
    for (const block of list(content).map(obj)) {
      if (block["type"] === "tool_result") this.toolResult(block, frame, parentId);
      else this.input(contentOf([block]).text || contentOf([block]).others.join("\n"), frame, parentId);
    }
  }

  private input(text: string, frame: Frame, parentId: string): void {
    const call = this.calls.get(parentId)?.row;
    const known = call?.type === "tool" && call.view.blocks.some((block) => block.kind === "markdown" && block.text === text);
    if (known || text.trim() === "") return;
    this.place({ ...this.base(), type: "input", text, synthetic: frame["isSynthetic"] === true }, parentId);
  }

  private toolResult(block: Json, frame: Frame, parentId: string): void {
    const id = str(block["tool_use_id"]);
    const error = block["is_error"] === true;
    const node = this.calls.get(id);
    if (node?.row.type !== "tool") {
      this.place({ ...this.base(error), type: "result", result: viewOfResult("", block["content"], error) }, parentId);
      return;
    }
    const denied = list(frame["tool_result_meta"]).map(obj)
      .some((meta) => meta["id"] === id && obj(meta["permission_decision"])["decision"] === "reject");
    const row = node.row as Omit<ToolRow, "children">;
    change(node, {
      ...row,
      state: row.state === "denied" || denied ? "denied" : error ? "failed" : "done",
      error,
      result: viewOfResult(row.name, block["content"], error),
      raw: [...row.raw, frame],
    });
  }

  private result(frame: Frame): void {
    const group = this.groups.at(-1);
    const last = group?.nodes.findLast((node) => node.row.type === "text")?.row;
    this.say(resultRow(frame, last?.type === "text" ? last.text : ""));
  }

  private system(frame: Frame): void {
    const subtype = str(frame["subtype"], "?");
    const call = this.calls.get(str(frame["tool_use_id"]));
    const row = call?.row;
    if (subtype === "thinking_tokens") {
      this.thinks(num(frame["estimated_tokens"]) ?? 0, str(frame["parent_tool_use_id"]));
    } else if (row?.type === "tool" && subtype === "permission_denied") {
      change(call as Node, { ...row, state: "denied", raw: [...row.raw, frame] });
    } else if (row?.type === "tool" && subtype.startsWith("task_")) {
      const progress = progressOf(subtype, frame) ?? row.progress;
      change(call as Node, { ...row, ...(progress ? { progress } : {}) });
    } else this.other(`system/${subtype}`, frame, frame);
  }

  private thinks(tokens: number, parentId: string): void {
    const text = `thinking, about ${tokens} tokens so far`;
    const row = this.thinking?.row;
    if (this.thinking && row?.type === "thinking") change(this.thinking, { ...row, text });
    else this.thinking = this.place({ ...this.base(), type: "thinking", text, partial: true }, parentId);
  }

  private forgetThinking(): void {
    const node = this.thinking;
    if (!node) return;
    const siblings = node.above?.children ?? node.group.nodes;
    siblings.splice(siblings.indexOf(node), 1);
    touch(node);
    this.thinking = undefined;
  }

  // --- what is streamed before it is whole --------------------------------------------------------------------------

  private partial(event: Json, parentId: string): void {
    const index = num(event["index"]) ?? 0;
    const type = str(event["type"]);
    if (type === "message_start") {
      this.partials.set(parentId, { message: str(obj(event["message"])["id"]), nodes: new Map() });
    } else if (type === "content_block_start") this.begin(obj(event["content_block"]), index, parentId);
    else if (type === "content_block_delta") this.more(obj(event["delta"]), this.partials.get(parentId)?.nodes.get(index));
  }

  private begin(block: Json, index: number, parentId: string): void {
    const nodes = this.partials.get(parentId)?.nodes;
    if (!nodes) return;
    if (block["type"] === "thinking") this.forgetThinking();
    if (block["type"] === "tool_use") {
      const name = str(block["name"], "?");
      const view = { ...viewOfCall(name, {}), title: "…" };
      nodes.set(index, this.place({ ...this.base(), type: "tool", id: str(block["id"]), name, view, state: "running" }, parentId));
    } else if (block["type"] === "text" || block["type"] === "thinking") {
      const text = str(block[block["type"]]);
      nodes.set(index, this.place({ ...this.base(), type: block["type"], text, partial: true }, parentId));
    }
  }

  private more(delta: Json, node: Node | undefined): void {
    const row = node?.row;
    if (!node || (row?.type !== "text" && row?.type !== "thinking")) return;
    change(node, { ...row, text: row.text + str(delta["text"]) + str(delta["thinking"]) });
  }

  /** The row that was begun for this block of this message; it is whole now. */
  private takePartial(messageId: string, parentId: string, sort: Row["type"]): Node | undefined {
    const begun = this.partials.get(parentId);
    if (!begun || begun.message !== messageId) return undefined;
    for (const [index, node] of begun.nodes) {
      if (node.row.type !== sort) continue;
      begun.nodes.delete(index);
      return node;
    }
    return undefined;
  }
}

function progressOf(subtype: string, frame: Frame): string | undefined {
  const usage = obj(frame["usage"]);
  const used = num(usage["tool_uses"]);
  const calls = used === undefined ? "" : `, ${used} tool ${used === 1 ? "call" : "calls"}`;
  if (subtype === "task_started") return frame["is_backgrounded"] === true ? "started in the background" : "started";
  if (subtype === "task_progress") return `${str(frame["description"], "at work")}${calls}`;
  if (subtype === "task_notification") return `${str(frame["status"], "ended")}${calls}`;
  return undefined;
}
