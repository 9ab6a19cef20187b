// What the fleet table shows, from what the hive says: filters, order, groups, chips. Pure.
import { duration, percent, plural, shortSha, tokens } from "../../lib/format";
import type { NeedItem } from "../../lib/hive-state";
import { briefly } from "../../lib/needs";
import type { ContainerState, ContainerView, Request, Transient } from "../../lib/protocol";
import type { IconName, Tone } from "../../ui";

/** Most pressing first. */
export const GROUP_ORDER: readonly ContainerState[] = ["needs_you", "failed", "working", "idle", "stopped"];

export const SORTS = ["name", "age", "unread", "context", "budget"] as const;
export type Sort = (typeof SORTS)[number];

export interface ChipModel {
  /** What a click filters by: "update:yes", "network:none". */
  filter: string;
  text: string;
  title: string;
  icon: IconName;
  tone: Tone;
  mono?: boolean;
}

const CONTEXT_LARGE = 150_000;

/** An agent's chips, the pressing ones first; what is as usual has none. */
export function chipsOf(agent: ContainerView, now: number): ChipModel[] {
  const chips: ChipModel[] = [];
  const add = (filter: string, icon: IconName, tone: Tone, text: string, title: string, mono = false): void => {
    chips.push({ filter, icon, tone, text, title, ...(mono && { mono }) });
  };
  if (agent.needs_login) add("login:needed", "key", "needs", "login", "Its account is not logged in");
  if (agent.waiting_reason === "limited") {
    const left = agent.waiting_until === undefined ? "" : ` ${duration(agent.waiting_until - now)}`;
    add("limit:yes", "clock", "needs", `limit${left}`, `Account ${agent.account} is at its usage limit${left && `, for another${left}`}`);
  }
  if (agent.waiting_reason === "budget") add("budget:over", "wallet", "needs", "over budget", "A budget stops it; raise it in Stats or wait");
  if (agent.waiting_reason === "backoff") add("backoff:yes", "refresh", "failed", "backing off", "Its last turns failed; it waits before it tries again");
  if (agent.needs_update) add("update:needed", "update", "accent", "update", "Built from an older revision than the hive's; update it");
  if (agent.held_by_operator && !agent.running) add("held:yes", "pause", "muted", "held", "You stopped it; only you start it again");
  if (agent.budget_used !== undefined && agent.budget_used >= 0.5 && agent.waiting_reason !== "budget")
    add("budget:half", "wallet", agent.budget_used >= 0.9 ? "needs" : "muted", percent(agent.budget_used), `Has used ${percent(agent.budget_used)} of its budget`);
  if (agent.ctx_tokens !== undefined && agent.ctx_tokens > 0)
    add("context:large", "chart", agent.ctx_tokens >= CONTEXT_LARGE ? "needs" : "muted", tokens(agent.ctx_tokens), `Context: ${agent.ctx_tokens.toLocaleString("en")} tokens`);
  if (agent.pending_reminders > 0) add("reminders:yes", "reminder", "muted", String(agent.pending_reminders), `Has ${plural(agent.pending_reminders, "open reminder")}`);
  if (agent.network !== "none") add(`network:${agent.network}`, "network", "muted", `net ${agent.network}`, agent.network === "host" ? "Uses the host's network" : "May reach the network");
  const open = agent.isolation === "none" || agent.isolation === "process";
  add(`isolation:${agent.isolation}`, "shield", "muted", open ? "not isolated" : agent.isolation, open ? "Runs as an ordinary process: it can do what your user can do" : `Isolated by ${agent.isolation}`);
  if (agent.deployed_sha) add(`sha:${agent.deployed_sha}`, "approvals", "muted", shortSha(agent.deployed_sha), `Deployed config ${agent.deployed_sha}`, true);
  return chips;
}

/** What the operator may hide from the table: columns, and chips by their kind. */
export const COLUMNS = [
  { id: "doing", label: "What it does" },
  { id: "unread", label: "Waiting mail" },
  { id: "model", label: "Model" },
  { id: "context", label: "Context" },
  { id: "network", label: "Network" },
  { id: "isolation", label: "Isolation" },
  { id: "sha", label: "Deployed config" },
] as const;

/** Everything about an agent that the filter box finds. */
function textOf(agent: ContainerView): string {
  return [agent.name, agent.model, agent.account, agent.isolation, agent.network, agent.state, agent.turn_state, agent.waiting_reason ?? "", agent.deployed_sha ?? ""].join(" ").toLowerCase();
}

/** Whether an agent has what a chip stands for. */
export function hasChip(agent: ContainerView, filter: string, now: number): boolean {
  const [kind, value] = split(filter);
  if (kind === "context") return (agent.ctx_tokens ?? 0) >= CONTEXT_LARGE;
  if (kind === "account") return agent.account === value;
  if (kind === "model") return agent.model === value;
  return chipsOf(agent, now).some((chip) => chip.filter === filter);
}

/** Words that all have to be found; "!word" must not be; "kind:value" is a chip's filter. */
export function matches(agent: ContainerView, query: string, now: number): boolean {
  const text = textOf(agent);
  return query
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => {
      const not = word.startsWith("!") && word.length > 1;
      const wanted = not ? word.slice(1) : word;
      const found = wanted.includes(":") ? hasChip(agent, wanted, now) : text.includes(wanted);
      return found !== not;
    });
}

const split = (filter: string): [string, string] => {
  const colon = filter.indexOf(":");
  return [filter.slice(0, colon), filter.slice(colon + 1)];
};

/** The order of rows within a group. */
export function compare(sort: Sort): (a: ContainerView, b: ContainerView) => number {
  const by: Record<Sort, (agent: ContainerView) => number | string> = {
    name: (agent) => agent.name,
    age: (agent) => agent.turn_state_since,
    unread: (agent) => -agent.unread,
    context: (agent) => -(agent.ctx_tokens ?? 0),
    budget: (agent) => -(agent.budget_used ?? 0),
  };
  const key = by[sort];
  return (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === y) return a.name < b.name ? -1 : 1;
    return x < y ? -1 : 1;
  };
}

export interface Group {
  state: ContainerState;
  agents: ContainerView[];
}

/** The rows in their groups; empty groups are left out. */
export function grouped(agents: readonly ContainerView[], sort: Sort): Group[] {
  return GROUP_ORDER.map((state) => ({ state, agents: agents.filter((agent) => agent.state === state).sort(compare(sort)) })).filter((group) => group.agents.length > 0);
}

/** Keep rows where they are while the pointer is on them: old order first, what is new behind its group. */
export function held(fresh: readonly Group[], before: readonly Group[]): Group[] {
  const present = new Map(fresh.flatMap((group) => group.agents.map((agent) => [agent.name, agent] as const)));
  const kept = before.map((group) => ({ state: group.state, agents: group.agents.flatMap((agent) => present.get(agent.name) ?? []) }));
  const shown = new Set(kept.flatMap((group) => group.agents.map((agent) => agent.name)));
  for (const group of fresh) {
    const more = group.agents.filter((agent) => !shown.has(agent.name));
    if (more.length === 0) continue;
    const there = kept.find((each) => each.state === group.state);
    if (there) there.agents.push(...more);
    else kept.push({ state: group.state, agents: more });
  }
  return kept.filter((group) => group.agents.length > 0);
}

/** What an agent is doing, or waits for, in a few words; `needs`: what of its waits for the operator. */
export function doing(agent: ContainerView, needs: readonly NeedItem[] = []): string {
  const first = needs.find((each) => each.kind !== "failed");
  if (first) return needs.length > 1 ? `${briefly(first)} (+${needs.length - 1})` : briefly(first);
  if (!agent.running) return agent.state === "failed" ? "stopped by itself" : "";
  if (agent.turn_state === "waiting") {
    const why = { limited: "at the usage limit", login: "for a login", budget: "for its budget", backoff: "before it tries again", operator: "for you" }[agent.waiting_reason ?? "operator"];
    return `waiting ${why}`;
  }
  return agent.turn_state === "idle" ? "" : agent.turn_state;
}

export interface RowAction {
  id: string;
  label: string;
  icon: IconName;
  /** What the row says meanwhile. */
  transient: Transient;
  request(name: string): Request;
  /** Whether it makes sense for this agent now. */
  fits(agent: ContainerView): boolean;
  /** Asks first: a turn is under way and would be ended. */
  asks?(agent: ContainerView): boolean;
  hint?: string;
}

const inTurn = (agent: ContainerView): boolean => agent.turn_state === "thinking" || agent.turn_state === "compacting";

export const ROW_ACTIONS: readonly RowAction[] = [
  { id: "start", label: "Start", icon: "play", transient: "starting", request: (name) => ({ cmd: "start", name }), fits: (agent) => !agent.running },
  { id: "stop", label: "Stop", icon: "stop", hint: "after its turn", transient: "stopping", request: (name) => ({ cmd: "kill", name }), fits: (agent) => agent.running },
  { id: "stop-now", label: "Stop now", icon: "stop", transient: "stopping", request: (name) => ({ cmd: "kill", name, now: true }), fits: (agent) => agent.running && inTurn(agent) },
  { id: "restart", label: "Restart", icon: "refresh", transient: "restarting", request: (name) => ({ cmd: "restart", name }), fits: (agent) => agent.running, asks: inTurn },
  { id: "update", label: "Update", icon: "update", transient: "rebuilding", request: (name) => ({ cmd: "update", name }), fits: (agent) => agent.needs_update, asks: inTurn },
  { id: "rebuild", label: "Rebuild", icon: "rebuild", transient: "rebuilding", request: (name) => ({ cmd: "rebuild", name }), fits: () => true, asks: inTurn },
];
