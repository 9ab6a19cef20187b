/* What led to a question or an approval, in words. Pure. */

import type { Schemas } from "../lib/protocol";
import { summary } from "./words";

export type OriginPage = Schemas["OriginPage"];
export type OriginMessage = Schemas["OriginMessage"];

/** Where the message stands among those around it. */
export function placeOf(message: OriginMessage): string {
  return `/messages?agent=${encodeURIComponent(message.from)}&with=${encodeURIComponent(message.to)}&id=${message.id}&before=${message.id + 50}`;
}

/** What was said: the hive's own mail in words. */
export function saidIn(message: OriginMessage): string {
  const text = message.from === "system" ? summary(message.from, message.body, 600) : message.body;
  return message.cut ? `${text}…` : text;
}

/** The whole of it on one line: who was answered, and how that begins. */
export function briefly(page: OriginPage): string {
  const last = page.messages.at(-1);
  if (last === undefined) return page.known ? `${page.asker} was answering nobody's message` : "What led to it was not noted";
  const others = page.messages.length - 1 + page.more;
  return `answering ${last.from}${others > 0 ? ` (and ${others} more)` : ""}: “${summary(last.from, last.body, 160)}”`;
}
