/* What an approval means to the operator: its words, its stages, what is said beside its diff. Pure. */

import type { Approval, AuditEntry } from "../../lib/protocol";
import { wayOf } from "../../lib/ways";

export interface Remarks {
  /** It cannot be approved, and why. */
  readonly blocked: readonly string[];
  /** It can be approved and would fail. */
  readonly fails: readonly string[];
  /** What the text does not show, or shows as something else. */
  readonly hidden: readonly string[];
  readonly cut: readonly string[];
  /** Settings that the running agent takes over, and those that a restart brings. */
  readonly live: readonly string[];
  readonly restarts: readonly string[];
  readonly others: readonly string[];
}

const LIVE = "taken over while it runs: ";
const RESTART = "taken by a restart between two turns: ";
const FAILS = "it would fail: ";
const CUT = "cut: ";

/** The core's warnings, told apart by how they begin; what is not known here is shown as it is. */
export function remarksOf(warnings: readonly string[]): Remarks {
  const found = { blocked: [], fails: [], hidden: [], cut: [], live: [], restarts: [], others: [] } as Record<keyof Remarks, string[]>;
  for (const one of warnings) {
    if (one.startsWith(LIVE)) found.live.push(...one.slice(LIVE.length).split(", "));
    else if (one.startsWith(RESTART)) found.restarts.push(...one.slice(RESTART.length).split(", "));
    else if (one.startsWith(FAILS)) found.fails.push(one.slice(FAILS.length));
    else if (one.startsWith(CUT)) found.cut.push(one.slice(CUT.length));
    else if (one.includes("cannot be approved any more")) found.blocked.push(one);
    else if (/ has U\+[0-9A-F]{4,}| are no UTF-8/u.test(one)) found.hidden.push(one);
    else found.others.push(one);
  }
  return found;
}

export function titleOf(approval: Approval): string {
  return approval.kind === "spawn" ? `New agent ${approval.agent}` : `New configuration for ${approval.agent}`;
}

export type StepState = "done" | "now" | "failed" | "waiting";

export interface Step {
  readonly name: string;
  readonly state: StepState;
}

/** How far it is: proposal, approved, building, deployed; or where it ended. */
export function stepsOf(approval: Approval): readonly Step[] {
  const names = approval.kind === "spawn" ? ["proposal", "approved", "building", "created"] : ["proposal", "approved", "building", "deployed"];
  const stage = approval.stage ?? (approval.status === "pending" ? "proposal" : approval.status);
  if (stage === "denied") return [{ name: "proposal", state: "done" }, { name: "denied", state: "failed" }];
  if (stage === "failed") return [...names.slice(0, 3).map((name) => ({ name, state: "done" as const })), { name: "failed", state: "failed" }];
  const at = stage === "deployed" ? names.length : Math.max(0, names.indexOf(stage));
  return names.map((name, index) => ({ name, state: index < at ? "done" : index === at ? "now" : "waiting" }));
}

export function isOpen(approval: Approval): boolean {
  return approval.status === "pending";
}

/** Approved, and not deployed or failed yet. */
export function isUnderWay(approval: Approval): boolean {
  return approval.status === "approved" && approval.stage !== "deployed";
}

/** Other proposals of the same agent: one that is deployed first makes the others stale, or changes their diff. */
export function rivalsOf(approval: Approval, all: readonly Approval[]): readonly Approval[] {
  return all.filter((one) => one.id !== approval.id && one.agent === approval.agent && one.kind === approval.kind && (isOpen(one) || isUnderWay(one)));
}

/** The lines of a failure's note that say why: the last ones, from the first that speaks of an error on. */
export function decisiveLines(note: string, most = 20): { readonly lines: readonly string[]; readonly left: number } {
  const all = note.trimEnd().split("\n");
  const tail = Math.max(0, all.length - most);
  const first = all.findIndex((line) => /\b(error|failed|fatal|refused|traceback|panic)\b/iu.test(line));
  const from = first < 0 ? tail : Math.min(first, tail);
  const lines = all.slice(from, from + most);
  return { lines, left: all.length - lines.length };
}

/** What the audit says of this approval, oldest first: when it came to each stage, who decided, by which way. */
export function storyOf(entries: readonly AuditEntry[], id: number): readonly AuditEntry[] {
  return entries.filter((entry) => entry.approval === id).reverse();
}

/** The entry of the word that was given. */
export function decisionOf(story: readonly AuditEntry[]): AuditEntry | undefined {
  return story.find((entry) => ["approved", "denied", "rollback"].includes(entry.action));
}

/** How a decision is told: `approved by operator on the web`. */
export function decisionWords(entry: AuditEntry): string {
  const word = entry.action === "rollback" ? "rolled back" : entry.action;
  return [word, "by", entry.who, wayOf(entry.channel)].filter(Boolean).join(" ");
}

const ARMED_MS = 4000;

/** Whether the key was pressed once before, a moment ago. `armed`: when, 0 where it was not; both in the page's own ms. */
export function isArmed(armed: number, at: number): boolean {
  return armed > 0 && at - armed < ARMED_MS;
}
