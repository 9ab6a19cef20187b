/* What this browser puts off: messages that are snoozed, and those marked done a moment ago, which can still be undone. */

import { type Signal, signal } from "@preact/signals";
import { asApiError, request } from "../../lib/api";
import { keep, kept } from "../../lib/storage";
import { toast } from "../../ui";

const KEY = "hive.snoozed";
const UNDO_MS = 5000;

/** Until when (unix seconds) a message stays away, by id. */
export const snoozed: Signal<Readonly<Record<number, number>>> = signal(read());
/** Done on this screen; the hive hears of it when the time to undo is over. */
export const leaving: Signal<ReadonlySet<number>> = signal(new Set());
const timers = new Map<number, ReturnType<typeof setTimeout>>();

export function snooze(id: number, until: number | undefined): void {
  const { [id]: _, ...others } = snoozed.peek();
  snoozed.value = until === undefined ? others : { ...others, [id]: until };
  keep(KEY, JSON.stringify(snoozed.peek()));
}

/** Marks them done; the toast takes it back. */
export function done(ids: readonly number[], words: string): void {
  leaving.value = new Set([...leaving.peek(), ...ids]);
  const stay = (): void => {
    ids.forEach((id) => clearTimeout(timers.get(id)));
    leaving.value = new Set([...leaving.peek()].filter((id) => !ids.includes(id)));
  };
  const timer = setTimeout(() => void tell(ids, stay), UNDO_MS);
  ids.forEach((id) => timers.set(id, timer));
  toast(words, { undo: stay, ms: UNDO_MS });
}

async function tell(ids: readonly number[], stay: () => void): Promise<void> {
  try {
    await request({ cmd: "ack", ids: [...ids] });
    ids.forEach((id) => snooze(id, undefined));
  } catch (error) {
    stay();
    toast(`Not marked as done: ${asApiError(error).detail}`, { tone: "failed" });
  }
}

// A page that goes away says so at once: what was marked done stays done.
addEventListener("pagehide", () => {
  if (leaving.peek().size > 0) void request({ cmd: "ack", ids: [...leaving.peek()] }, { keepalive: true }).catch(() => undefined);
});

function read(): Readonly<Record<number, number>> {
  try {
    const found: unknown = JSON.parse(kept(KEY) ?? "{}");
    return typeof found === "object" && found !== null ? (found as Record<number, number>) : {};
  } catch {
    return {};
  }
}
