// The turns of an agent, newest first: what each ended with, and for one that failed why, without opening it.
import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { absolute, durationLong, money, tokens } from "../../lib/format";
import { useLoad } from "../../lib/load";
import type { TurnRow } from "../../lib/protocol";
import { Link, navigate, setQuery } from "../../lib/router";
import { newUpTo } from "../../lib/new-up-to";
import { lastVisit } from "../../lib/visit";
import { Age, Button, Chip, Empty, ErrorBox, Icon, Loading, Segmented, Text, VisitLine } from "../../ui";
import { RESULTS } from "./turn-words";

type Row = TurnRow & { last_tool?: string; error?: string; stderr?: string };
const PAGE = 50;
/** What of the log is shown round a turn. */
const AROUND = 60;

interface Props {
  name: string;
  query: Readonly<Record<string, string>>;
}

export function Turns({ name, query }: Props) {
  const failed = query["failed"] === "1";
  const [since, until] = [numberOf(query["since"]), numberOf(query["until"])];
  const [more, setMore] = useState<{ of: string; rows: Row[]; done: boolean; busy: boolean; error?: ApiError }>();
  const of = JSON.stringify([name, failed, since, until]);
  const ask = (before?: number, signal?: AbortSignal): Promise<Row[]> =>
    request(
      { cmd: "turns", name, limit: PAGE, failed, ...(since === undefined ? {} : { since }), ...(until === undefined ? {} : { until }), ...(before === undefined ? {} : { before }) },
      signal ? { signal } : {},
    ).then((reply) => reply.turns as Row[]);
  const loaded = useLoad((stop) => ask(undefined, stop), [of]);
  const page = `${of} ${loaded.value?.at(-1)?.turn}`; // where newer turns came in, what stood below it has a gap before it
  const later = more?.of === page ? more : undefined;
  const rows = [...(loaded.value ?? []), ...(later?.rows ?? [])];
  const last = rows.at(-1)?.turn;
  const line = newUpTo(rows.map((row) => ({ at: row.ended_at })), lastVisit.value);
  const older = (): void => {
    if (last === undefined) return;
    const before = later ?? { of: page, rows: [], done: false, busy: false };
    setMore({ ...before, busy: true });
    ask(last).then(
      (found) => setMore({ of: page, rows: [...before.rows, ...found], done: found.length < PAGE, busy: false }),
      (error: unknown) => setMore({ ...before, busy: false, error: asApiError(error) }),
    );
  };
  const full = (loaded.value?.length ?? 0) >= PAGE && !later?.done;
  return (
    <div class="turns">
      <div class="turns-bar">
        <Segmented label="Which turns" value={failed ? "failed" : "all"} options={[{ value: "all", label: "All" }, { value: "failed", label: "Failed" }]} onChange={(value) => setQuery({ failed: value === "failed" ? "1" : undefined })} />
        {since !== undefined && until !== undefined && (
          <Chip icon="close" title="Show all times" onClick={() => setQuery({ since: undefined, until: undefined })} on>
            {absolute(since)} to {absolute(until)}
          </Chip>
        )}
      </div>
      {loaded.error && <ErrorBox error={loaded.error} retry={loaded.reload} />}
      {!loaded.value && loaded.loading ? (
        <Loading lines={6} />
      ) : rows.length === 0 ? (
        <Empty title={failed ? "No turn failed" : "No turn has ended yet"} icon={failed ? "check" : "circle"}>
          {since !== undefined ? "Not in this time." : failed ? "Of those that are kept: 90 days." : "Write to the agent to start one."}
        </Empty>
      ) : (
        <ol class="turn-list">
          {rows.map((row, at) => (
            <Fragment key={`${row.turn ?? ""}-${row.started_at}-${at}`}>
              {at === line && <VisitLine as="li" />}
              <TurnItem name={name} row={row} />
            </Fragment>
          ))}
        </ol>
      )}
      {later?.error && <ErrorBox error={later.error} retry={older} />}
      {full && (
        <div class="log-edge">
          <Button small busy={later?.busy ?? false} icon="down" onClick={older}>
            Older turns
          </Button>
        </div>
      )}
    </div>
  );
}

function numberOf(text: string | undefined): number | undefined {
  const value = Number(text);
  return text !== undefined && Number.isFinite(value) ? value : undefined;
}

export function logsHref(name: string, row: Pick<TurnRow, "started_at" | "ended_at">): string {
  return `/logs/${encodeURIComponent(name)}?since=${row.started_at - AROUND}&until=${row.ended_at + AROUND}`;
}

export function TurnItem({ name, row }: { name: string; row: Row }) {
  const result = RESULTS[row.result_kind] ?? { word: row.result_kind, means: "" };
  const ok = row.result_kind === "ok";
  const href = row.turn === undefined ? undefined : `/agents/${encodeURIComponent(name)}/t/${row.turn}`;
  const used = (row.input_tokens ?? 0) + (row.cache_read_input_tokens ?? 0) + (row.cache_creation_input_tokens ?? 0);
  return (
    <li class={`turn-item${ok ? "" : " turn-item-failed"}`}>
      <div class="turn-item-head">
        <Chip tone={ok ? "ok" : "failed"} icon={ok ? "check" : "alert"} title={result.means}>
          {result.word}
        </Chip>
        {href ? <Link class="turn-item-name" href={href}>Turn {row.turn}</Link> : <span class="turn-item-name">A turn</span>}
        <span class="muted">from {row.wake_from || "?"}</span>
        <span class="turn-facts">
          <span title="How long it took">{durationLong(row.duration_ms / 1000)}</span>
          <span class="wide-only" title="Tokens in and out">{tokens(used)} in, {tokens(row.output_tokens ?? 0)} out</span>
          <span class="wide-only" title="By list price; a dash where the price is not known">{money(row.cost ? row.cost : undefined)}</span>
          <span class="wide-only">{row.tool_call_count ?? 0} calls</span>
          <Age at={row.ended_at} />
        </span>
      </div>
      {!ok && <Why name={name} row={row} href={href} />}
    </li>
  );
}

/** Exit reason, last tool call, stderr, and where the rest is. */
export function Why({ name, row, href }: { name: string; row: Row; href?: string | undefined }) {
  return (
    <div class="why">
      <dl class="fields">
        <div>
          <dt>why</dt>
          <dd>{row.error ? <Text text={row.error} /> : (RESULTS[row.result_kind]?.means ?? row.result_kind)}</dd>
        </div>
        {row.last_tool && (
          <div>
            <dt>last call</dt>
            <dd class="mono"><Text text={row.last_tool} line /></dd>
          </div>
        )}
        {row.stderr && (
          <div>
            <dt>stderr</dt>
            <dd><pre class="code"><Text text={row.stderr} /></pre></dd>
          </div>
        )}
      </dl>
      <div class="why-links">
        {href && <Button small icon="arrow" onClick={() => navigate(href)}>Open the turn</Button>}
        <Link class="more" href={logsHref(name, row)}>
          <Icon name="logs" size={12} /> log of that minute
        </Link>
      </div>
    </div>
  );
}

