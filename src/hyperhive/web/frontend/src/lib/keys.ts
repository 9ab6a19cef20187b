// One registry of what can be done here: it feeds the keys, the palette (mod+k) and the help (?). Screens register while
// they are shown. Keys never fire while one types; those without a modifier can be turned off.
import { computed, signal, type ReadonlySignal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import { settings } from "./settings";

export interface Action {
  id: string;
  title: string;
  /** Groups the action in palette and help. */
  section?: string;
  /** "j", "g a" (one after the other), "mod+k" (Ctrl or Cmd), "ctrl+enter", "shift+x". */
  keys?: string;
  run(): void;
  /** Whether it can be done now. */
  when?: () => boolean;
  /** Keys and help only, not the palette. */
  hidden?: boolean;
  /** More words to find it by. */
  words?: string;
}

const groups = signal<readonly (readonly Action[])[]>([]);

/** All that is registered; of two with one id or the same keys the later one counts. */
export const actions: ReadonlySignal<Action[]> = computed(() => {
  const byId = new Map<string, Action>();
  for (const action of groups.value.flat()) byId.set(action.id, action);
  return [...byId.values()];
});

/** Offer these until the returned function is called. */
export function register(offered: readonly Action[]): () => void {
  groups.value = [...groups.peek(), offered];
  return () => (groups.value = groups.peek().filter((each) => each !== offered));
}

/** Offer these while the component is shown: from the moment it is, so that the next key means them already. */
export function useActions(offered: readonly Action[], deps: readonly unknown[] = []): void {
  useLayoutEffect(() => register(offered), deps as unknown[]);
}

/** A key press in the registry's spelling. */
export function spell(event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">): string {
  const key = event.key === " " ? "space" : event.key.length === 1 ? event.key : event.key.toLowerCase();
  const letter = key.length === 1 && /[a-z]/i.test(key);
  const parts: string[] = [];
  if (event.ctrlKey || event.metaKey) parts.push("mod");
  if (event.altKey) parts.push("alt");
  if (event.shiftKey && (letter || key.length > 1)) parts.push("shift");
  parts.push(letter ? key.toLowerCase() : key);
  return parts.join("+");
}

const normal = (keys: string): string =>
  keys
    .split(" ")
    .map((chord) => {
      const shifted = /^[A-Z]$/.test(chord) ? `shift+${chord.toLowerCase()}` : chord;
      return shifted.replace(/^(ctrl|cmd)\+/, "mod+");
    })
    .join(" ");

/** Finds what a sequence of presses means. Pure but for the clock given to `press`. */
export class KeyMatcher {
  #pending = "";
  #at = 0;

  /** The action for this press, "wait" where it begins a longer sequence, undefined where it means nothing. */
  press(spelled: string, at: number, offered: readonly Action[]): Action | "wait" | undefined {
    const before = at - this.#at < 1200 ? this.#pending : "";
    for (const sequence of before ? [`${before} ${spelled}`, spelled] : [spelled]) {
      const able = offered.filter((action) => action.keys !== undefined && (action.when?.() ?? true));
      const hit = able.findLast((action) => normal(action.keys!) === sequence);
      if (hit) {
        this.#pending = "";
        return hit;
      }
      if (able.some((action) => normal(action.keys!).startsWith(`${sequence} `))) {
        this.#pending = sequence;
        this.#at = at;
        return "wait";
      }
    }
    this.#pending = "";
    return undefined;
  }
}

/** Whether the operator types into this: then only chords with a modifier count. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable) return true;
  if (target instanceof HTMLInputElement) return !["button", "checkbox", "radio", "submit", "range", "file"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** Listen to the keyboard, for the life of the page. */
export function listenToKeys(): void {
  const matcher = new KeyMatcher();
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const spelled = spell(event);
    const modified = spelled.startsWith("mod+") || spelled.startsWith("alt+");
    if (!modified && (isTyping(event.target) || (!settings.singleKeys.value && spelled !== "escape"))) return;
    // A focused button or link keeps its own Enter and Space; a dialog keeps the keys to itself.
    if ((spelled === "enter" || spelled === "space") && (event.target as Element | null)?.closest?.("button,a,summary,[role=menuitem],label,input")) return;
    if (document.querySelector("dialog[open]") !== null && !modified) return;
    const meant = matcher.press(spelled, event.timeStamp, actions.value);
    if (meant === undefined) return;
    event.preventDefault();
    if (meant !== "wait") invoke(meant);
  });
}

/** Do it, and remember that it was done for the palette's order. */
export function invoke(action: Action): void {
  if (!action.hidden) {
    settings.recentActions.value = [action.id, ...settings.recentActions.peek().filter((id) => id !== action.id)].slice(0, 12);
  }
  action.run();
}
