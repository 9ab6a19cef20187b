/**
 * What an agent's events say of its state: the badges above its terminal. Pure.
 *
 * The snapshot gives the beginning; each frame may change a part of it. Usage-limit windows come only by events, and
 * only from CLIs with a login of their own.
 */

import { list, num, obj, str, type Frame, type Json } from "./frames";

export interface Usage {
  readonly input: number;
  readonly output: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
}

export interface LimitWindow {
  readonly name: string;
  /** 0 to 1, where it is known. */
  readonly used?: number;
  readonly resetsAt?: number;
  readonly status: string;
}

export interface Facts {
  readonly state: string;
  readonly since: number;
  readonly reason?: string;
  readonly model: string;
  readonly login: string;
  readonly ctx?: Usage;
  readonly cost?: Usage;
  /** The model's context window in tokens, once a turn's result told it. */
  readonly window?: number;
  readonly limits: readonly LimitWindow[];
}

export const NO_FACTS: Facts = { state: "idle", since: 0, model: "", login: "online", limits: [] };

export function usageOf(value: unknown): Usage | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const given = obj(value);
  return {
    input: num(given["input_tokens"]) ?? 0,
    output: num(given["output_tokens"]) ?? 0,
    cacheRead: num(given["cache_read_input_tokens"]) ?? 0,
    cacheWrite: num(given["cache_creation_input_tokens"]) ?? 0,
  };
}

/** Tokens of context: all that went in, cached or not. */
export function contextOf(usage: Usage | undefined): number | undefined {
  return usage && usage.input + usage.cacheRead + usage.cacheWrite;
}

/** From an agent's snapshot (`/agents/NAME/api/state`). */
export function factsOf(snapshot: Json, before: Facts = NO_FACTS): Facts {
  const ctx = usageOf(snapshot["ctx_usage"]);
  const cost = usageOf(snapshot["cost_usage"]);
  const { reason: _, ctx: _ctx, cost: _cost, ...rest } = before;
  return {
    ...rest,
    state: str(snapshot["turn_state"], "idle"),
    since: num(snapshot["turn_state_since"]) ?? 0,
    model: str(snapshot["model"]),
    login: str(snapshot["status"], "online"),
    ...(ctx ? { ctx } : {}),
    ...(cost ? { cost } : {}),
  };
}

/** The facts after one more frame; the same object where it changes nothing. */
export function nextFacts(facts: Facts, frame: Frame): Facts {
  switch (frame.kind) {
    case "turn_state_changed": {
      const { reason: _, ...rest } = facts;
      const reason = str(frame["reason"]);
      return { ...rest, state: str(frame["state"], "idle"), since: num(frame["since_unix"]) ?? facts.since, ...(reason ? { reason } : {}) };
    }
    case "model_changed":
      return { ...facts, model: str(frame["model"]) };
    case "status_changed":
      return { ...facts, login: str(frame["status"]) };
    case "token_usage_changed": {
      const ctx = usageOf(frame["ctx"]) ?? facts.ctx;
      const cost = usageOf(frame["cost"]) ?? facts.cost;
      return { ...facts, ...(ctx ? { ctx } : {}), ...(cost ? { cost } : {}) };
    }
    case "stream":
      return cliFacts(facts, frame);
    default:
      return facts;
  }
}

function cliFacts(facts: Facts, frame: Frame): Facts {
  if (frame["type"] === "rate_limit_event") return { ...facts, limits: limitsOf(obj(frame["rate_limit_info"]), facts.limits) };
  if (frame["type"] !== "result") return facts;
  const windows = Object.values(obj(frame["modelUsage"])).map((each) => num(obj(each)["contextWindow"]) ?? 0);
  const window = Math.max(0, ...windows);
  return window > 0 && window !== facts.window ? { ...facts, window } : facts;
}

function limitsOf(info: Json, before: readonly LimitWindow[]): LimitWindow[] {
  const found = new Map(before.map((each) => [each.name, each]));
  const take = (name: string, value: Json): void => {
    const used = num(value["utilization"]);
    const resetsAt = num(value["resetsAt"]) ?? num(value["resets_at"]);
    found.set(name, {
      name,
      status: str(value["status"], "allowed"),
      ...(used === undefined ? {} : { used }),
      ...(resetsAt === undefined ? {} : { resetsAt }),
    });
  };
  const windows = info["unifiedWindows"];
  if (Array.isArray(windows)) for (const each of list(windows).map(obj)) take(str(each["type"], "?"), each);
  else for (const [name, each] of Object.entries(obj(windows))) take(name, obj(each));
  if (str(info["rateLimitType"])) take(str(info["rateLimitType"]), info);
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}
