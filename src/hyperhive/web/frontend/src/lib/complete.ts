// What a text field offers while one types: names after "@", commands after a leading "/". Pure.
import { rank } from "./fuzzy";

export interface Completion {
  /** The span that a choice replaces. */
  from: number;
  to: number;
  options: { insert: string; hint?: string }[];
}

/** What may be meant at the caret; undefined where nothing is. */
export function completion(text: string, caret: number, names: readonly string[], commands: readonly { name: string; hint: string }[]): Completion | undefined {
  const before = text.slice(0, caret);
  const command = /^\/([a-z-]*)$/.exec(before);
  if (command) {
    const found = rank(command[1]!, commands, (each) => each.name).slice(0, 8);
    return offered(0, caret, found.map((each) => ({ insert: each.name.startsWith("/") ? each.name : `/${each.name}`, hint: each.hint })));
  }
  const name = /(?:^|\s)@([a-z0-9-]*)$/i.exec(before);
  if (!name) return undefined;
  const found = rank(name[1]!, names, (each) => each).slice(0, 8);
  return offered(caret - name[1]!.length - 1, caret, found.map((each) => ({ insert: `@${each}` })));
}

function offered(from: number, to: number, options: Completion["options"]): Completion | undefined {
  return options.length > 0 ? { from, to, options } : undefined;
}
