/*
 * A message as the operator reads it: mail of the hive's own in words rather than JSON, states by what they mean to a
 * person, whom a line is addressed to. Pure.
 */

import type { MessageStateName } from "../lib/protocol";

/** What a state is called on the screen, and what it means. */
export const STATES: Readonly<Record<MessageStateName, { word: string; meaning: string; tone: "muted" | "working" | "ok" | "needs" | "failed" }>> = {
  pending: { word: "queued", meaning: "Durable in the inbox; not handed out yet", tone: "muted" },
  in_flight: { word: "delivered", meaning: "Handed to its recipient; its turn has not ended well yet", tone: "working" },
  acked: { word: "read", meaning: "Part of a turn that ended well", tone: "ok" },
  held: { word: "held", meaning: "Its chain may be a reply storm: it waits for your word", tone: "needs" },
  dead: { word: "dead", meaning: "Given up; it can be requeued", tone: "failed" },
};

/** What a mail of `system` says, and where it leads; undefined where the body is not one of the hive's events. */
export function hiveWords(body: string): { readonly text: string; readonly href?: string } | undefined {
  const event = eventIn(body);
  if (!event) return undefined;
  const text = (key: string): string => (typeof event[key] === "string" ? (event[key] as string) : "");
  const agent = text("agent");
  const note = text("note") ? `: ${text("note")}` : "";
  const went = event["ok"] === false ? "failed" : "done";
  const page = agent ? { href: `/agents/${encodeURIComponent(agent)}` } : {};
  switch (event["event"]) {
    case "approval_resolved": return { text: `Approval ${event["id"]} of ${agent} is ${text("status")}${note}`, href: `/approvals/${event["id"]}` };
    case "spawned": return { text: went === "done" ? `${agent} was created` : `${agent} could not be created${note}`, ...page };
    case "rebuilt": return { text: went === "done" ? `${agent} was rebuilt${note}` : `${agent} could not be rebuilt${note}`, ...page };
    case "killed": return { text: `${agent} was stopped`, ...page };
    case "destroyed": return { text: `${agent} was removed` };
    case "container_crash": return { text: `${agent} stopped without being asked to${note}`, ...page };
    case "needs_login": return { text: `${agent} needs a login`, ...page };
    case "logged_in": return { text: `${agent} is logged in again`, ...page };
    case "needs_update": return { text: `${agent} was built from another revision than the hive’s`, ...page };
    case "question_asked": return { text: `${text("asker")} asks: ${text("question")}`, href: `/questions/${event["id"]}` };
    case "question_answered":
      if (text("answer") === "[expired]") return { text: `The question “${text("question")}” expired without an answer`, href: `/questions/${event["id"]}` };
      return { text: `${text("answerer")} answered “${text("question")}”: ${text("answer")}`, href: `/questions/${event["id"]}` };
    default: return undefined;
  }
}

function eventIn(body: string): Readonly<Record<string, unknown>> | undefined {
  if (!body.startsWith("{")) return undefined;
  try {
    const found: unknown = JSON.parse(body);
    return typeof found === "object" && found !== null && "event" in found ? (found as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** `@bob look at this`: to whom, and what. Only at the beginning, and only a name that there is. */
export function addressed(text: string, names: readonly string[]): { readonly to?: string; readonly body: string } {
  const found = /^\s*@([a-z0-9-]+)[\s,:]+/u.exec(text);
  if (!found || !names.includes(found[1] as string)) return { body: text.trim() };
  return { to: found[1] as string, body: text.slice(found[0].length).trim() };
}

/** The beginning of a body on one line, without the marks of markdown: what a closed row shows. */
export function summary(from: string, body: string, length = 240): string {
  const said = from === "system" ? (hiveWords(body)?.text ?? body) : body;
  const flat = said.replace(/^[|:\s-]*-{3,}[|:\s-]*$/gmu, "").replace(/\*\*|`/gu, "").replace(/\s+/gu, " ").trim();
  return flat.length > length ? `${flat.slice(0, length)}…` : flat;
}

/** When a snoozed message comes back. */
export function snoozeUntil(which: "hour" | "tomorrow" | "week", now: Date): number {
  const at = new Date(now);
  if (which === "hour") return Math.floor(now.getTime() / 1000) + 3600;
  at.setDate(at.getDate() + (which === "tomorrow" ? 1 : (8 - at.getDay()) % 7 || 7));
  at.setHours(9, 0, 0, 0);
  return Math.floor(at.getTime() / 1000);
}
