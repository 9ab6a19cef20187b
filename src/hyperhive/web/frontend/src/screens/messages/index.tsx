/* The flow of messages between all, live; by pair, state and words; and where the operator writes to anybody. */

import { Fragment, type JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { useActions } from "../../lib/keys";
import { Link, setQuery } from "../../lib/router";
import { agentNames, facts } from "../../lib/store";
import { useTyped } from "../../lib/typed";
import { newUpTo } from "../../lib/new-up-to";
import { lastVisit } from "../../lib/visit";
import { Compose } from "../../mail/Compose";
import { type FlowFilter, type FlowRow, ROWS_MAX, threads } from "../../mail/flow";
import { STATES, summary } from "../../mail/words";
import { Age, Button, Chip, Empty, ErrorBox, Loading, Page, Segmented, Select, Text, TextInput, VisitLine } from "../../ui";
import { MessageRow } from "./Row";
import { useFlow } from "./use-flow";
import "../../mail/mail.css";
import "./messages.css";

export default function Screen({ query }: ScreenProps): JSX.Element {
  const filter = filterOf(query);
  const before = Number(query["before"]) || undefined;
  const top = useRef<HTMLDivElement>(null);
  const scrolled = useRef(false);
  const flow = useFlow(filter, before, () => scrolled.current);
  const writing = useRef<HTMLTextAreaElement>(null);
  const byThread = query["view"] === "threads";
  useAtTop(top, scrolled, flow.release);
  useActions([{ id: "messages.write", title: "Write a message", section: "Messages", keys: "c", run: () => writing.current?.focus() }]);
  return (
    <Page title="Messages" wide lead={<Lead />}>
      <div class="messages">
        <Filters filter={filter} byThread={byThread} />
        {before === undefined ? null : <p class="messages-at">{`From message ${before - 1} back.`} <Link href={withoutBefore(query)}>To the newest</Link></p>}
        {flow.fresh > 0 ? <Button class="messages-fresh" kind="primary" icon="up" onClick={() => { flow.release(); top.current?.scrollIntoView({ block: "end" }); }}>{`${flow.fresh} new`}</Button> : null}
        <div ref={top} class="messages-top" aria-hidden="true" />
        {flow.error ? <ErrorBox error={flow.error} retry={flow.reload} /> : null}
        {flow.rows === undefined ? (flow.error ? null : <Loading lines={10} />) : byThread ? <Threads rows={flow.rows} /> : <Rows rows={flow.rows} query={query} filter={filter} />}
        {flow.rows !== undefined && flow.more ? <p class="messages-more"><Button busy={flow.loading} onClick={flow.older}>Older messages</Button></p> : null}
        {(flow.rows?.length ?? 0) >= ROWS_MAX ? <p class="muted messages-more">{`These are ${ROWS_MAX}: `}<Link href={`/messages?before=${flow.rows?.at(-1)?.id ?? 1}`}>go on from here</Link></p> : null}
        <div class="messages-compose"><Compose draft="messages" quiet {...(recipientOf(filter) ? { to: recipientOf(filter) as string } : {})} areaRef={writing} /></div>
      </div>
    </Page>
  );
}

function Lead(): JSX.Element {
  const { dead = 0, held = 0 } = facts.value ?? {};
  return (
    <>
      Who writes what to whom.{" "}
      {held > 0 ? <Link href="/messages?state=held">{`${held} held`}</Link> : null}{held > 0 && dead > 0 ? ", " : ""}
      {dead > 0 ? <Link href="/dead">{`${dead} dead`}</Link> : null}
    </>
  );
}

function filterOf(query: ScreenProps["query"]): FlowFilter {
  const state = query["state"] !== undefined && query["state"] in STATES ? (query["state"] as FlowRow["state"]) : undefined;
  return { agent: query["agent"] || undefined, with: query["with"] || undefined, state, q: query["q"] || undefined };
}

/** Whom one writes to in a thread of one's own, or with one agent. */
function recipientOf(filter: FlowFilter): string | undefined {
  const others = [filter.agent, filter.with].filter((one): one is string => one !== undefined && one !== "operator" && one !== "system");
  return others.length === 1 && agentNames.value.includes(others[0] as string) ? others[0] : undefined;
}

function withoutBefore(query: ScreenProps["query"]): string {
  const { before: _, ...rest } = query;
  return `/messages?${new URLSearchParams(rest).toString()}`;
}

function Filters({ filter, byThread }: { filter: FlowFilter; byThread: boolean }): JSX.Element {
  const [words, setWords] = useTyped(filter.q ?? "", (typed) => setQuery({ q: typed || undefined, before: undefined }), 250);
  const names = ["operator", "system", ...agentNames.value];
  const anybody = (word: string): { value: string; label: string }[] => [{ value: "", label: word }, ...names.map((name) => ({ value: name, label: name }))];
  return (
    <div class="messages-filters" role="search">
      <TextInput type="search" aria-label="Words in the message" placeholder="Words" value={words} onValue={setWords} />
      <Select aria-label="From or to" options={anybody("anybody")} value={filter.agent ?? ""} onValue={(agent) => setQuery({ agent: agent || undefined, ...(agent ? {} : { with: undefined }), before: undefined })} />
      {filter.agent ? <Select aria-label="And" options={anybody("and anybody")} value={filter.with ?? ""} onValue={(other) => setQuery({ with: other || undefined, before: undefined })} /> : null}
      <Select
        aria-label="State"
        options={[{ value: "", label: "any state" }, ...Object.entries(STATES).map(([value, { word }]) => ({ value, label: word }))]}
        value={filter.state ?? ""}
        onValue={(state) => setQuery({ state: state || undefined, before: undefined })}
      />
      <Segmented label="View" options={[{ value: "flow", label: "Flow" }, { value: "threads", label: "Threads" }]} value={byThread ? "threads" : "flow"} onChange={(view) => setQuery({ view: view === "threads" ? view : undefined })} />
      {filter.agent || filter.state || filter.q ? <Button kind="ghost" icon="close" onClick={() => setQuery({ agent: undefined, with: undefined, state: undefined, q: undefined, before: undefined })}>Clear</Button> : null}
    </div>
  );
}

function Rows({ rows, query, filter }: { rows: readonly FlowRow[]; query: ScreenProps["query"]; filter: FlowFilter }): JSX.Element {
  const open = Number(query["id"]);
  const [at, setAt] = useState<number>();
  const current = at ?? (open || undefined);
  const index = rows.findIndex((row) => row.id === current);
  const go = (step: number): void => {
    const next = rows[Math.max(0, Math.min(rows.length - 1, index < 0 ? 0 : index + step))];
    setAt(next?.id);
    if (next) document.querySelector(`[data-message="${next.id}"]`)?.scrollIntoView({ block: "nearest" });
  };
  const show = (id: number): void => {
    setAt(id);
    setQuery({ id: id === open ? undefined : String(id) });
  };
  useActions(
    [
      { id: "messages.next", title: "Next message", section: "Messages", keys: "j", hidden: true, run: () => go(1) },
      { id: "messages.previous", title: "Previous message", section: "Messages", keys: "k", hidden: true, run: () => go(-1) },
      { id: "messages.open", title: "Open the message", section: "Messages", keys: "enter", hidden: true, run: () => current && show(current) },
      { id: "messages.reply", title: "Reply", section: "Messages", keys: "r", run: () => document.querySelector<HTMLElement>(".mail.open textarea")?.focus() },
    ],
    [rows, index, open],
  );
  if (rows.length === 0) {
    const filtered = filter.agent ?? filter.state ?? filter.q;
    return <Empty title={filtered ? "No message is like that" : "Nobody has written anything yet"} icon="message" {...(filtered ? {} : { command: "hyperhive send NAME TEXT" })} />;
  }
  const line = newUpTo(rows, lastVisit.value);
  return (
    <div class="mail-list" role="list" aria-label="Messages, newest first">
      {rows.map((row, place) => (
        <Fragment key={row.id}>
          {place === line ? <VisitLine /> : null}
          <MessageRow row={row} open={row.id === open} current={row.id === current} onToggle={() => show(row.id)} />
        </Fragment>
      ))}
    </div>
  );
}

function Threads({ rows }: { rows: readonly FlowRow[] }): JSX.Element {
  return (
    <div class="mail-list" role="list" aria-label="Threads">
      {threads(rows).map(({ key, pair, last, count, stuck }) => (
        <div class="mail" role="listitem" key={key}>
          <Link class="mail-row" href={`/messages?agent=${encodeURIComponent(pair[0])}&with=${encodeURIComponent(pair[1])}`}>
            <span class="mail-who"><b><Text text={pair[0]} line /></b> <span class="muted">↔</span> <b><Text text={pair[1]} line /></b></span>
            <span class="mail-line"><Text text={`${last.from}: ${summary(last.from, last.body)}`} line /></span>
            <span class="mail-side">
              {stuck > 0 ? <Chip tone="needs" title="Held or dead">{`${stuck} stuck`}</Chip> : null}
              <Chip title="Of the messages that are loaded">{String(count)}</Chip>
            </span>
            <span class="mail-side"><Age at={last.at} /></span>
          </Link>
        </div>
      ))}
    </div>
  );
}

/** Knows whether the newest row is on the screen: only then do new ones come in by themselves. */
function useAtTop(top: { current: HTMLElement | null }, scrolled: { current: boolean }, release: () => void): void {
  useEffect(() => {
    if (!top.current) return undefined;
    const watch = new IntersectionObserver(([entry]) => {
      scrolled.current = !entry?.isIntersecting;
      if (entry?.isIntersecting) release();
    });
    watch.observe(top.current);
    return () => watch.disconnect();
  }, []);
}
