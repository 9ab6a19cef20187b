// What the hive keeps of one agent: pages of its events, its state now, and where a turn begins.
import { asApiError, get, request } from "../../lib/api";
import type { Frame } from "../../rows";

export const PAGE = 200;
/** The most that the history gives at once. */
export const HISTORY_MAX = 2000;

export async function history(name: string, ask: { before?: number; limit?: number; kind?: string; q?: string }, signal?: AbortSignal): Promise<Frame[]> {
  const page = await request({ cmd: "events", name, limit: PAGE, ...ask }, signal ? { signal } : {});
  return page.events as unknown as Frame[];
}

/** The agent's state, or none where it does not run: its history can be read all the same. */
export async function stateOf(name: string, stop?: AbortSignal): Promise<Record<string, unknown> | undefined> {
  try {
    return await get<Record<string, unknown>>(`/agents/${encodeURIComponent(name)}/api/state`, stop);
  } catch (error) {
    if (asApiError(error).status === 0) throw error;
    return undefined;
  }
}

/** The first event of a turn, looked for among the beginnings of turns. */
export async function firstOf(name: string, turn: number): Promise<number | undefined> {
  let before: number | undefined;
  for (let page = 0; page < 10; page++) {
    const starts = await history(name, { kind: "turn_start", limit: 500, ...(before === undefined ? {} : { before }) });
    const found = starts.findLast((frame) => frame.turn === turn);
    if (found) return found.eid;
    before = starts[0]?.eid;
    if (before === undefined) return undefined;
  }
  return undefined;
}
