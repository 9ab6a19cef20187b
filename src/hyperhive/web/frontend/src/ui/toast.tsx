// Short words about what was just done, with an undo where there is one. Never the only record of a failure.
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { visible } from "../lib/visible";
import { Button, IconButton, type Tone } from "./basics";

export interface ToastOptions {
  tone?: Tone;
  /** Takes it back; offered for five seconds, also by the key `u`. */
  undo?: () => void;
  action?: { label: string; run(): void };
  /** Milliseconds; failures stay until they are put away. */
  ms?: number;
}

interface Shown extends ToastOptions {
  id: number;
  text: string;
}

const shown = signal<readonly Shown[]>([]);
let next = 1;

/** Show it; returns how to take it away early. */
export function toast(text: string, options: ToastOptions = {}): () => void {
  const id = next++;
  const leave = (): void => {
    shown.value = shown.peek().filter((each) => each.id !== id);
  };
  shown.value = [...shown.peek().slice(-3), { ...options, id, text }];
  if (options.tone !== "failed") setTimeout(leave, options.ms ?? 5000);
  return leave;
}

/** Undo the newest that can be undone. */
export function undoLast(): boolean {
  const last = shown.peek().findLast((each) => each.undo !== undefined);
  if (last === undefined) return false;
  shown.value = shown.peek().filter((each) => each.id !== last.id);
  last.undo!();
  return true;
}

export function Toasts(): VNode {
  const leave = (id: number): void => {
    shown.value = shown.peek().filter((each) => each.id !== id);
  };
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((each) => (
        <div key={each.id} class={`toast tone-${each.tone ?? "muted"}`}>
          <span>{visible(each.text)}</span>
          {each.undo && (
            <Button small kind="ghost" icon="undo" keys="u" onClick={() => (leave(each.id), each.undo!())}>
              Undo
            </Button>
          )}
          {each.action && (
            <Button small kind="ghost" onClick={() => (leave(each.id), each.action!.run())}>
              {each.action.label}
            </Button>
          )}
          <IconButton icon="close" label="Dismiss" onClick={() => leave(each.id)} />
        </div>
      ))}
    </div>
  );
}
