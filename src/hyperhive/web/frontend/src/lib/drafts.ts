// Text that is being written survives a reload, a crash of the tab and a walk to another screen.
import { effect, signal, type Signal } from "@preact/signals";
import { keep, kept } from "./storage";

const PREFIX = "hive.draft.";
const open = new Map<string, Signal<string>>();

/** The draft under this key, the same signal for all who ask, and how to throw it away. */
export function draft(key: string): [Signal<string>, () => void] {
  let text = open.get(key);
  if (text === undefined) {
    const made = signal(kept(PREFIX + key) ?? "");
    effect(() => void keep(PREFIX + key, made.value === "" ? null : made.value));
    open.set(key, made);
    text = made;
  }
  const found = text;
  return [found, () => (found.value = "")];
}

/** As `draft`; reads well in a component. */
export const useDraft = draft;

/** Whether anything unsent is written anywhere: then the page does not reload itself. */
export function anyDraft(): boolean {
  return Object.keys(localStorage).some((key) => key.startsWith(PREFIX));
}
