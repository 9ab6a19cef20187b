// When the operator was here before: what came since is new to them. A visit ends with half an hour in which nobody looked,
// in any tab of this browser; a reload goes on with the same one.
import type { ReadonlySignal } from "@preact/signals";
import { settings } from "./settings";

/** Away for so long, one wants to be told (seconds). */
const AWAY = 30 * 60;
const NOTE_MS = 30_000;

/** When the visit before this one ended (unix seconds); 0: there was none. */
export const lastVisit: ReadonlySignal<number> = settings.visitSince;

/** Note that the operator is here, while the page is looked at. Called once a sign-in. */
export function startVisit(): () => void {
  const note = (): void => {
    if (document.visibilityState !== "visible") return;
    const at = Math.floor(Date.now() / 1000);
    const before = settings.lastVisit.peek();
    if (before > 0 && at - before >= AWAY) settings.visitSince.value = before;
    settings.lastVisit.value = at;
  };
  note();
  const timer = setInterval(note, NOTE_MS);
  document.addEventListener("visibilitychange", note);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", note);
  };
}
