/* The messages that a filter wants: pages from the newest, live ones merged in, held back while one reads. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, asApiError, request } from "../../lib/api";
import type { DashboardEvent } from "../../lib/protocol";
import { onFrame, snapshots } from "../../lib/store";
import { type FlowFilter, type FlowRow, ROWS_MAX, applied, joined, news } from "../../mail/flow";

const PAGE = 100;
const FLUSH_MS = 200;

export interface FlowState {
  readonly rows: readonly FlowRow[] | undefined;
  readonly error: ApiError | undefined;
  readonly loading: boolean;
  readonly more: boolean;
  /** Came while `hold` was on. */
  readonly fresh: number;
  older(): void;
  reload(): void;
  /** Shows what was held back. */
  release(): void;
}

export function useFlow(filter: FlowFilter, before: number | undefined, hold: () => boolean): FlowState {
  const [rows, setRows] = useState<readonly FlowRow[]>();
  const [error, setError] = useState<ApiError>();
  const [loading, setLoading] = useState(true);
  const [more, setMore] = useState(false);
  const [fresh, setFresh] = useState(0);
  const [round, setRound] = useState(0);
  const waiting = useRef<DashboardEvent[]>([]);
  const ready = useRef(false);
  const latest = useRef({ filter, hold, live: before === undefined });
  latest.current = { filter, hold, live: before === undefined };
  const key = JSON.stringify([filter, before]);
  const shown = useRef(key);
  shown.current = key;
  // After frames were missed: the newest page again, rather than a hole that nobody sees.
  const snapshot = snapshots.value;

  useEffect(() => {
    const stop = new AbortController();
    setLoading(true);
    ready.current = false;
    waiting.current = [];
    request(ask(filter, before), { signal: stop.signal }).then(
      (page) => {
        if (stop.signal.aborted) return;
        // Frames that came meanwhile are applied on top of the page.
        ready.current = true;
        setRows(applied(page.rows, waiting.current.splice(0), filter));
        setMore(page.more);
        setFresh(0);
        setError(undefined);
        setLoading(false);
      },
      (failure: unknown) => {
        if (stop.signal.aborted) return;
        setError(asApiError(failure));
        setLoading(false);
      },
    );
    return () => stop.abort();
  }, [key, round, snapshot]);

  const flush = useCallback((): void => {
    const frames = waiting.current.splice(0);
    setFresh(0);
    if (frames.length > 0) setRows((held) => held && applied(held, frames, latest.current.filter));
  }, []);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = (): void => {
      timer = undefined;
      if (!ready.current) {
        waiting.current = waiting.current.slice(-ROWS_MAX); // the page takes them when it is here
        return;
      }
      const { hold: held, live } = latest.current;
      if (!held() && live) return flush();
      // States move where they are; new rows wait.
      const states = waiting.current.filter((frame) => frame.kind !== "sent");
      const fresh = live ? news(waiting.current, latest.current.filter) : { frames: [], count: 0 };
      waiting.current = fresh.frames;
      if (states.length > 0) setRows((shown) => shown && applied(shown, states.filter((frame) => "id" in frame && shown.some((row) => row.id === frame.id)), latest.current.filter));
      setFresh(fresh.count);
    };
    const stop = onFrame((frame) => {
      if (frame.kind !== "sent" && frame.kind !== "delivered" && frame.kind !== "message_state") return;
      waiting.current.push(frame);
      timer ??= setTimeout(later, FLUSH_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [flush]);

  const older = (): void => {
    const last = rows?.at(-1);
    if (!last || loading) return;
    setLoading(true);
    request(ask(filter, last.id)).then(
      (page) => {
        if (shown.current !== key) return; // of another filter by now
        setRows((held) => joined(held ?? [], page.rows));
        setMore(page.more && (rows?.length ?? 0) + page.rows.length < ROWS_MAX);
        setLoading(false);
      },
      (failure: unknown) => {
        if (shown.current !== key) return;
        setError(asApiError(failure));
        setLoading(false);
      },
    );
  };
  return { rows, error, loading, more, fresh, older, release: flush, reload: () => setRound((one) => one + 1) };
}

function ask(filter: FlowFilter, before: number | undefined) {
  return {
    cmd: "flow" as const,
    limit: PAGE,
    ...(before === undefined ? {} : { before }),
    ...(filter.agent ? { agent: filter.agent } : {}),
    ...(filter.with ? { with: filter.with } : {}),
    ...(filter.state ? { state: filter.state } : {}),
    ...(filter.q ? { q: filter.q } : {}),
  };
}
