/**
 * What the CLI and the hive say about themselves, in a line: sessions, retries, compaction, limits, results, notes.
 *
 * `systemRow` answers undefined for what it does not know (that is shown as it came) and "nothing" for what is known to
 * say nothing.
 */

import { firstLine, list, num, obj, plain, str, type Frame, type Json } from "./frames";
import { plural, tokens } from "../lib/format";
import type { Block, NoteRow } from "./types";

export interface Said {
  readonly label: string;
  readonly title: string;
  readonly blocks: readonly Block[];
  readonly error?: boolean;
}

type Speaker = (value: Json) => Said | "nothing";

function said(label: string, title: string, blocks: readonly Block[] = [], error = false): Said {
  return { label, title, blocks, error };
}

function asFields(value: Json, names: readonly string[]): Block[] {
  const fields = names.filter((name) => value[name] !== undefined && value[name] !== null)
    .map((name) => [name, plain(value[name])] as const);
  return fields.length ? [{ kind: "fields", fields }] : [];
}

function init(value: Json): Said {
  const servers = list(value["mcp_servers"]).map(obj);
  const bad = servers.filter((server) => server["status"] !== "connected" && server["status"] !== "pending");
  const tools = list(value["tools"]).length;
  const names = servers.map((server) => `${str(server["name"])} ${str(server["status"])}`).join(", ");
  const title = [str(value["model"]), `${tools} tools`, names, str(value["claude_code_version"])].filter(Boolean).join(" · ");
  return said("session", title, asFields(value, ["session_id", "cwd", "permissionMode", "apiKeySource", "tools"]), bad.length > 0);
}

function retry(value: Json): Said {
  const delay = num(value["retry_delay_ms"]);
  const wait = delay === undefined ? "" : `, again in ${(delay / 1000).toFixed(1)} s`;
  const why = [value["error_status"], value["error"]].filter((part) => part !== null && part !== undefined).map(plain).join(" ");
  return said("retry", `request failed${why ? ` (${firstLine(why, 120)})` : ""}, try ${plain(value["attempt"])} of ${plain(value["max_retries"])}${wait}`);
}

function limit(value: Json): Said | "nothing" {
  const info = obj(value["rate_limit_info"]);
  const status = str(info["status"], "?");
  if (status === "allowed") return "nothing";
  const used = num(info["utilization"]);
  const which = str(info["rateLimitType"]).replaceAll("_", " ");
  const share = used === undefined ? "" : `, ${Math.round(used * 100)} % used`;
  const words = status === "rejected" ? "reached" : "near";
  return said("limit", `${which || "usage"} limit ${words}${share}`, asFields(info, ["resetsAt", "overageStatus"]), status === "rejected");
}

function hook(value: Json): Said {
  const code = num(value["exit_code"]);
  const blocks: Block[] = [str(value["stdout"]), str(value["stderr"])].filter(Boolean).map((text) => ({ kind: "code", text }));
  return said("hook", `${str(value["hook_name"]) || str(value["hook_event"])} ${str(value["outcome"])}`.trim(), blocks, code !== undefined && code !== 0);
}

function permission(value: Json): Said | "nothing" {
  const request = obj(value["request"]);
  if (request["subtype"] !== "can_use_tool") return request["subtype"] === "mcp_message" ? "nothing" : said("control", str(request["subtype"], "?"));
  return said("asks", `may it use ${str(request["tool_name"], "?")}?`, [{ kind: "code", text: plain(request["input"]) }]);
}

const STATES: Readonly<Record<string, string>> = {
  limited: "for its account's limit to end",
  login: "for a login",
  budget: "for its budget",
  backoff: "before it tries again",
  operator: "for the operator",
};

function turnState(value: Json): Said | "nothing" {
  if (value["state"] === "compacting") return said("state", "compacting");
  if (value["state"] !== "waiting") return "nothing";
  const reason = str(value["reason"]);
  const words = Object.hasOwn(STATES, reason) ? STATES[reason] : reason;
  return said("state", words ? `waits ${words}` : "waits");
}

const LOGINS: Readonly<Record<string, string>> = { online: "it is logged in", needs_login_idle: "it needs a login", needs_login_in_progress: "a login is under way" };

const SPEAKERS: ReadonlyMap<string, Speaker> = new Map<string, Speaker>([
  ["turn_state_changed", turnState],
  ["status_changed", (value) => {
    const status = str(value["status"]);
    return said("login", Object.hasOwn(LOGINS, status) ? LOGINS[status]! : status.replaceAll("_", " "));
  }],
  ["model_changed", (value) => said("model", str(value["model"]))],
  ["system/init", init],
  ["system/api_retry", retry],
  ["system/status", (value) => (value["status"] === "compacting" ? said("state", "compacting the session") : "nothing")],
  ["system/compact_boundary", (value) => {
    const facts = obj(value["compact_metadata"]);
    const sizes = facts["pre_tokens"] === undefined ? "" : `, ${plain(facts["pre_tokens"])} tokens before, ${plain(facts["post_tokens"])} after`;
    return said("compact", `the session was compacted (${str(facts["trigger"], "?")}${sizes})`);
  }],
  ["system/hook_started", () => "nothing"],
  ["system/hook_response", hook],
  ["system/informational", (value) => said("info", str(value["content"]) || str(value["message"]) || firstLine(plain(value)))],
  ["system/permission_denied", (value) => said("denied", `${str(value["tool_name"], "?")}: ${str(value["message"])}`, [], true)],
  ["system/task_started", (value) => said("task", `${str(value["description"], "a task")} started`)],
  ["system/task_progress", () => "nothing"],
  ["system/task_notification", (value) => said("task", `${str(value["summary"]) || "a task"}: ${str(value["status"])}`, [], value["status"] === "failed")],
  ["stream/rate_limit_event", limit],
  ["stream/control_request", permission],
  ["stream/conversation_reset", () => said("session", "a new conversation begins")],
]);

/** A known kind in words; undefined: it is not known. */
export function systemRow(name: string, value: Json): Said | "nothing" | undefined {
  return SPEAKERS.get(name)?.(value);
}

/** The line that ends what the CLI did. `words`: the last text that was shown, not to be repeated. */
export function resultRow(frame: Frame, words: string): Said {
  const failed = frame["is_error"] === true;
  const usage = obj(frame["usage"]);
  const used = (num(usage["input_tokens"]) ?? 0) + (num(usage["cache_read_input_tokens"]) ?? 0) + (num(usage["cache_creation_input_tokens"]) ?? 0);
  const ms = num(frame["duration_ms"]);
  const parts = [
    str(frame["terminal_reason"]) || str(frame["subtype"], "?"),
    frame["num_turns"] === undefined ? "" : plural(num(frame["num_turns"]) ?? 0, "model turn"),
    ms === undefined ? "" : `${(ms / 1000).toFixed(1)} s`,
    used ? `${tokens(used)} tokens in, ${tokens(num(usage["output_tokens"]) ?? 0)} out` : "",
  ];
  const blocks: Block[] = [];
  const text = str(frame["result"]);
  if (text && text.trim() !== words.trim()) blocks.push(failed ? { kind: "code", text } : { kind: "markdown", text });
  const errors = list(frame["errors"]).map(plain).join("\n");
  if (errors) blocks.push({ kind: "code", text: errors });
  const denials = list(frame["permission_denials"]).map(obj);
  if (denials.length) blocks.push({ kind: "fields", fields: denials.map((one) => ["denied", `${str(one["tool_name"])} ${firstLine(JSON.stringify(one["tool_input"] ?? {}), 120)}`] as const) });
  return said("result", parts.filter(Boolean).join(" · "), blocks, failed);
}

const OPERATOR_NOTE = /^(cancel|model|new session|compacting the session|the session was (not )?compacted|logged in)\b/;

/** Whose note it is. The event says so; those of hives that did not say it yet are told by their words. */
export function noteTone(frame: Frame): NoteRow["tone"] {
  const source = frame["source"];
  if (source === "operator" || source === "cli") return source;
  return OPERATOR_NOTE.test(str(frame["text"])) ? "operator" : "hive";
}
