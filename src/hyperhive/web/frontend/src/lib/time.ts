// One clock for the whole page: a single ticker, so that two hundred ages cost one timer.
import { signal, type ReadonlySignal } from "@preact/signals";
import { duration } from "./format";

const seconds = (): number => Math.floor(Date.now() / 1000);
const current = signal(seconds());

/** Unix seconds; changes once a second while the page is visible. */
export const now: ReadonlySignal<number> = current;

setInterval(() => {
  if (document.visibilityState === "visible") current.value = seconds();
}, 1000);
document.addEventListener("visibilitychange", () => {
  current.value = seconds();
});

/** How long ago, in at most five characters: "now", "12s", "5m", "3h", "2d". */
export function ago(at: number, from: number): string {
  const age = from - at;
  return age < 3 ? "now" : duration(age);
}

/** How long until, as `ago`; "due" where it has come. */
export function until(at: number, from: number): string {
  return at <= from ? "due" : duration(at - from);
}
