// Which turn of an agent's was under way at a moment: where a question or a proposal came from.
import { request } from "./api";
import type { TurnRow } from "./protocol";

const LONGEST_TURN = 6 * 3600;

/** The turn, where it has ended and is still known. */
export async function turnAt(name: string, at: number, signal?: AbortSignal): Promise<TurnRow | undefined> {
  const reply = await request({ cmd: "turns", name, since: at, until: at + LONGEST_TURN, limit: 100 }, signal ? { signal } : {});
  return reply.turns.find((turn) => turn.started_at <= at && at <= turn.ended_at);
}

/** Where that turn is shown; the agent's page where it is not known, or still runs. */
export async function turnPlace(name: string, at: number): Promise<string> {
  const page = `/agents/${encodeURIComponent(name)}`;
  const turn = await turnAt(name, at).catch(() => undefined);
  return turn?.turn === undefined ? page : `${page}/t/${turn.turn}`;
}
