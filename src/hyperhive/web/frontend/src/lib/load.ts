// A request as the state of a screen: what it gave, what failed, whether it is under way. Keeps what is shown while it
// asks again, drops answers that came too late, and asks anew after the line was down: the hive may be another one by then.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { asApiError, type ApiError } from "./api";
import { refetches } from "./store";

export interface Loaded<T> {
  value?: T;
  error?: ApiError;
  loading: boolean;
  reload(): void;
}

/** Run `load` now, whenever `deps` change, and whenever frames of the hive may have been missed. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, deps: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: ApiError; loading: boolean }>({ loading: true });
  const [round, setRound] = useState(0);
  const missed = refetches.value;
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest.current(stop.signal).then(
      (value) => {
        if (!stop.signal.aborted) setState({ value, loading: false });
      },
      (error: unknown) => {
        if (!stop.signal.aborted) setState((before) => ({ ...before, error: asApiError(error), loading: false }));
      },
    );
    return () => stop.abort();
  }, [...deps, round, missed]);
  const reload = useCallback(() => setRound((before) => before + 1), []);
  return { ...state, reload };
}
