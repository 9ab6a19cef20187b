// A search through all that is kept of an agent, on the server; each hit leads to where it stands.
import { useEffect, useRef, useState } from "preact/hooks";
import { asApiError, type ApiError } from "../../lib/api";
import { plural } from "../../lib/format";
import { Button, Empty, ErrorBox, Loading } from "../../ui";
import { NO_FILTER, RowModel, rowTest, wordsOf } from "../../rows";
import { RowView } from "./row-view";
import { history, PAGE } from "./past";
import type { AgentSession } from "./session";

const WAIT_MS = 200;

/** What the server looks for: the longest word; the rest is looked for here. */
function needle(q: string): string {
  return wordsOf(q).sort((a, b) => b.length - a.length)[0] ?? "";
}

export function Hits({ session, q }: { session: AgentSession; q: string }) {
  const [model, setModel] = useState<RowModel>();
  const [error, setError] = useState<ApiError>();
  const [more, setMore] = useState(true);
  const [round, setRound] = useState(0);
  const stopped = useRef(new AbortController());
  const word = needle(q);
  const opened = session.opened.value;

  const fetchPage = async (into: RowModel, stop: AbortSignal): Promise<void> => {
    const before = into.firstEid;
    const events = await history(session.name, { ...(word ? { q: word } : {}), ...(before === undefined ? {} : { before }) }, stop);
    if (stop.aborted) return;
    into.add(events);
    setMore(events.length >= PAGE);
    setModel(into);
    setRound((last) => last + 1);
  };
  const load = (into: RowModel): void => {
    setError(undefined);
    const stop = stopped.current.signal;
    fetchPage(into, stop).catch((failed: unknown) => !stop.aborted && setError(asApiError(failed)));
  };
  useEffect(() => {
    stopped.current = new AbortController();
    const timer = setTimeout(() => load(new RowModel({ gaps: false })), WAIT_MS);
    return () => {
      clearTimeout(timer);
      stopped.current.abort();
    };
  }, [session, word]);

  const test = rowTest({ ...NO_FILTER, q });
  const rows = (model?.groups() ?? []).flatMap((group) => group.rows).filter(test).reverse();
  return (
    <div class="log" data-round={round}>
      <div class="log-found">{model ? `${plural(rows.length, "row")}${more ? " so far" : ""}, newest first` : "Searching…"}</div>
      <div class="log-box" role="region" aria-label="What was found" tabIndex={0}>
        <div class="log-inner">
          {error && <ErrorBox error={error} retry={() => load(model ?? new RowModel({ gaps: false }))} />}
          {!model && !error && <Loading lines={5} />}
          {model && rows.length === 0 && !more && <Empty title="Nothing that is kept is like that" icon="search">Events are kept for seven days.</Empty>}
          {rows.map((row) => (
            <RowView key={row.key} row={row} session={session} opened={opened.get(row.key)} openedMap={opened} current={undefined} hits />
          ))}
          {model && more && (
            <div class="log-edge">
              <Button small icon="down" onClick={() => load(model)}>
                Search older ones
              </Button>
            </div>
          )}
        </div>
      </div>
    </div>
  );
}
