// Tells the operator that somebody waits: the tab's title and icon at once, a desktop notification after fifteen seconds
// unseen. Once per transition and thing; what is replayed or was there at the start never notifies; what is resolved
// elsewhere is withdrawn; several at once are one.
import { effect, signal, type ReadonlySignal } from "@preact/signals";
import alertIcon from "../assets/hive-alert.svg?url";
import icon from "../assets/hive.svg?url";
import type { NeedItem } from "./hive-state";
import { navigate } from "./router";
import { settings } from "./settings";
import { keep, kept } from "./storage";
import { hive, needsYou } from "./store";
import { oneLine } from "./visible";

export const UNSEEN_MS = 15_000;

const said = signal("");
/** For a screen reader, politely: who newly needs the operator. Nothing else is announced of live data. */
export const announcement: ReadonlySignal<string> = said;

/** The words of one notification: the agent and the question itself. */
export function words(item: NeedItem): { title: string; body: string; url: string } {
  switch (item.kind) {
    case "question":
      return { title: `${item.agent} asks`, body: oneLine(item.question.tool ? `May it use ${item.question.tool.name}?` : item.question.question).slice(0, 200), url: `/questions/${item.question.id}` };
    case "approval":
      return { title: `${item.agent}: approval ${item.approval.id}`, body: item.approval.kind === "spawn" ? "A new agent is asked for." : "A change is proposed.", url: `/approvals/${item.approval.id}` };
    case "login":
      return { title: `${item.agent} needs a login`, body: "Its account is not logged in any more.", url: `/agents/${item.agent}?login=1` };
    case "failed":
      return { title: `${item.agent} failed`, body: "It stopped working. Open it to see why.", url: `/agents/${item.agent}` };
  }
}

/** Whether `at` lies in "22:00-07:00", in minutes since midnight. */
export function quiet(hours: string, minutes: number): boolean {
  const found = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(hours.trim());
  if (!found) return false;
  const [from, to] = [Number(found[1]) * 60 + Number(found[2]), Number(found[3]) * 60 + Number(found[4])];
  return from <= to ? minutes >= from && minutes < to : minutes >= from || minutes < to;
}

/** Decides what to notify of; time and display are its caller's. Pure but for its memory. */
export class Notifier {
  #known: Set<string> | undefined;
  #waiting = new Map<string, { item: NeedItem; at: number }>();

  /** What waits now. `seen`: the operator looks at the page. */
  update(items: readonly NeedItem[], at: number, seen: boolean): { withdraw: string[]; fresh: NeedItem[] } {
    const keys = new Set(items.map((item) => item.key));
    const before = this.#known;
    this.#known = keys;
    for (const key of this.#waiting.keys()) if (!keys.has(key)) this.#waiting.delete(key);
    if (before === undefined) return { withdraw: [], fresh: [] };
    const fresh = items.filter((item) => !before.has(item.key));
    if (!seen) for (const item of fresh) this.#waiting.set(item.key, { item, at });
    return { withdraw: [...before].filter((key) => !keys.has(key)), fresh };
  }

  /** The operator looked: nothing waits to be told any more. */
  seen(): void {
    this.#waiting.clear();
  }

  /** What has been unseen for long enough; asked again, it is not given twice. */
  due(at: number, unseenMs: number = UNSEEN_MS): NeedItem[] {
    const oldest = Math.min(...[...this.#waiting.values()].map((each) => each.at));
    if (!(at - oldest >= unseenMs)) return [];
    const items = [...this.#waiting.values()].map((each) => each.item); // with the oldest goes whatever came since
    this.#waiting.clear();
    return items;
  }
}

/** Follow what waits, for the time one is signed in. */
export function startNotifications(): () => void {
  const notifier = new Notifier();
  const open = new Map<string, Notification>();
  const looking = (): boolean => document.visibilityState === "visible" && document.hasFocus();
  const stop = effect(() => {
    if (hive.value === undefined) return; // not known yet is not "nobody waits": what was there before is no news
    const items = needsYou.value;
    const count = items.length;
    document.title = count > 0 ? `(${count}) hive` : "hive";
    document.getElementById("favicon")?.setAttribute("href", count > 0 ? alertIcon : icon);
    const { withdraw, fresh } = notifier.update(items, Date.now(), looking());
    for (const key of withdraw) {
      const shown = open.get(key);
      open.delete(key);
      if (![...open.values()].includes(shown!)) shown?.close(); // one for several stays while any of them waits
    }
    if (fresh.length > 0) said.value = fresh.length > 3 ? `${fresh.length} things need you` : fresh.map((item) => words(item).title).join(", ");
  });
  const seen = (): void => {
    if (looking()) notifier.seen();
  };
  const timer = setInterval(() => {
    const due = notifier.due(Date.now());
    if (due.length > 0) void tell(due, open);
  }, 1000);
  document.addEventListener("visibilitychange", seen);
  addEventListener("focus", seen);
  return () => {
    stop();
    clearInterval(timer);
    document.removeEventListener("visibilitychange", seen);
    removeEventListener("focus", seen);
    open.forEach((each) => each.close());
    document.title = "hive";
  };
}

/** Of several tabs one tells: the browser folds notifications of one tag, and a lock keeps the sound to one. */
async function tell(items: NeedItem[], open: Map<string, Notification>): Promise<void> {
  const minutes = new Date().getHours() * 60 + new Date().getMinutes();
  const heard = items.filter((item) => !settings.muted.value.includes(item.agent));
  if (!settings.notifications.value || heard.length === 0 || quiet(settings.quietHours.value, minutes)) return;
  if (typeof Notification === "undefined" || Notification.permission !== "granted") return;
  const [first] = heard;
  const told = heard.length === 1 ? words(first!) : { title: `${new Set(heard.map((item) => item.agent)).size} agents need you`, body: heard.slice(0, 4).map((item) => words(item).title).join(", "), url: "/needs-you" };
  const tag = heard.map((item) => `${item.key}@${item.at}`).join(" "); // an agent may fail again: that is another transition
  if (kept("hive.told") === tag) return;
  keep("hive.told", tag);
  const shown = new Notification(told.title, { body: told.body, tag, icon });
  for (const item of heard) open.set(item.key, shown);
  shown.onclick = () => {
    focus();
    navigate(told.url);
    shown.close();
  };
}
