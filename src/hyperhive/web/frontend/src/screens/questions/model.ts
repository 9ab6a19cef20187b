/*
 * A question as what can be answered: which options, what the chosen ones come to, what the tool call behind it is.
 * Pure. The words of tool answers are the core's (`broker/tool_rules.py`).
 */

import type { Question } from "../../lib/protocol";

export const ALLOW_ONCE = "allow once";
export const ALLOW_ALWAYS = "allow always";
export const DENY = "deny";

export type Kind = "tool" | "system" | "choice" | "free";

export function kindOf(question: Pick<Question, "tool" | "asker" | "options">): Kind {
  if (question.tool) return "tool";
  if (question.asker === "system") return "system";
  return question.options.length > 0 ? "choice" : "free";
}

/** What is chosen and written so far. */
export interface Draft {
  readonly chosen: readonly string[];
  readonly other: string;
}

export const NOTHING: Draft = { chosen: [], other: "" };

/** With this option chosen; one that is chosen already is taken back where there may be several. */
export function choose(draft: Draft, option: string, multi: boolean): Draft {
  if (!multi) return { ...draft, chosen: [option] };
  const chosen = draft.chosen.includes(option) ? draft.chosen.filter((one) => one !== option) : [...draft.chosen, option];
  return { ...draft, chosen };
}

/** The answer, in the order of the options, own words last; empty where there is none yet. */
export function answerOf(question: Pick<Question, "options" | "multi">, draft: Draft): string {
  const chosen = question.options.filter((option) => draft.chosen.includes(option));
  const own = draft.other.trim();
  if (question.multi) return [...chosen, ...(own ? [own] : [])].join(", ");
  return own || (chosen[0] ?? "");
}

/** A denial of a tool call, with its reason: the core tells the agent what follows the word. */
export function toolDenial(reason: string): string {
  const words = reason.trim();
  return words ? `${DENY}: ${words}` : DENY;
}

/** How a resolved question is told. */
export function resolution(answer: string, answerer: string): { readonly word: "answered" | "expired" | "cancelled"; readonly by: string } {
  if (answer === "[expired]" || answerer === "ttl-watchdog") return { word: "expired", by: "" };
  if (/^\[cancelled by [^\]]*\]$/u.test(answer) || (answerer === "system" && answer.startsWith("["))) return { word: "cancelled", by: answerer };
  return { word: "answered", by: answerer };
}

/** A tool's input as a person reads it: its fields in order, long texts as they are rather than as JSON. */
export function fieldsOf(input: Readonly<Record<string, unknown>>): readonly { readonly name: string; readonly text: string; readonly block: boolean }[] {
  return Object.entries(input).map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value, undefined, 2);
    return { name, text, block: text.includes("\n") || text.length > 80 };
  });
}

/** Whether the question's words say that the agent can get round it. */
export function cautionOf(question: Pick<Question, "question" | "tool">): string | undefined {
  if (!question.tool) return undefined;
  const told = question.question.split("told as the reason.")[1]?.trim();
  return told || undefined;
}
