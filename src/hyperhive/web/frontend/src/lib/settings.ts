// What this browser remembers of its operator's taste. Each setting is a signal kept in the origin's storage.
import { effect, signal, type Signal } from "@preact/signals";
import { keep, kept as recall } from "./storage";

function kept<T>(name: string, initial: T): Signal<T> {
  const key = `hive.setting.${name}`;
  let first = initial;
  try {
    const stored = recall(key);
    if (stored !== null) first = JSON.parse(stored) as T;
  } catch {
    // Unreadable: as if it had never been set.
  }
  const setting = signal(first);
  effect(() => void keep(key, JSON.stringify(setting.value)));
  addEventListener("storage", (event) => {
    if (event.key === key && event.newValue !== null) setting.value = JSON.parse(event.newValue) as T;
  });
  return setting;
}

export const settings = {
  theme: kept<"auto" | "light" | "dark">("theme", "auto"),
  /** Keys without a modifier (j, k, /, g a …). WCAG 2.1.4 wants them to be off-switchable. */
  singleKeys: kept("single-keys", true),
  absoluteTimes: kept("absolute-times", false),
  /** Long lines of logs and diffs wrap. */
  wrap: kept("wrap", true),
  splitDiff: kept("split-diff", false),
  ignoreSpace: kept("ignore-space", false),
  notifications: kept("notifications", false),
  /** Agents that never raise a desktop notification. */
  muted: kept<string[]>("muted", []),
  /** "22:00-07:00" or empty. */
  quietHours: kept("quiet-hours", ""),
  recentActions: kept<string[]>("recent-actions", []),
  /** Columns of the fleet table that are not shown. */
  hiddenColumns: kept<string[]>("hidden-columns", []),
  /** When the operator last looked at any page (unix seconds), and when the visit before this one ended; see visit.ts. */
  lastVisit: kept("last-visit", 0),
  visitSince: kept("visit-since", 0),
  /** Of the digest that was put away: since when it told. */
  digestRead: kept("digest-read", 0),
  lastRecipient: kept("last-recipient", ""),
  savedReplies: kept<string[]>("saved-replies", []),
};

export type Theme = "auto" | "light" | "dark";

/** Keep the document's theme as set. */
export function applyTheme(): void {
  effect(() => {
    const theme = settings.theme.value;
    if (theme === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme);
  });
}
