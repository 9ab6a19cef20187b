/* The operator's inbox: what agents wrote to them, read in place, answered, put off or done. */

import { Fragment, type JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { request } from "../../lib/api";
import { plural } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import type { OperatorInboxRow } from "../../lib/protocol";
import { Link, setQuery } from "../../lib/router";
import { facts, hive, inbox } from "../../lib/store";
import { now } from "../../lib/time";
import { newUpTo } from "../../lib/new-up-to";
import { lastVisit } from "../../lib/visit";
import { Body } from "../../mail/Body";
import { Compose } from "../../mail/Compose";
import { FileRefs } from "../../mail/FileRefs";
import { snoozeUntil, summary } from "../../mail/words";
import { Age, AgentLink, Button, Chip, Empty, ErrorBox, Loading, Menu, Page, Tabs, Text, Until, VisitLine } from "../../ui";
import { done, leaving, snooze, snoozed } from "./later";
import "../../mail/mail.css";

type View = "open" | "snoozed" | "done";

export default function Screen({ query }: ScreenProps): JSX.Element {
  const view: View = query["view"] === "snoozed" || query["view"] === "done" ? query["view"] : "open";
  const here = inbox.value.filter((row) => row.done_at === undefined && !leaving.value.has(row.id));
  const away = here.filter((row) => (snoozed.value[row.id] ?? 0) > now.value);
  const open = here.filter((row) => !away.includes(row));
  return (
    <Page
      title="Inbox"
      lead="What agents wrote to you."
      actions={view === "open" && open.length > 1 ? <Button icon="check" onClick={() => done(open.map((row) => row.id), `${plural(open.length, "message")} done`)}>{`All ${open.length} done`}</Button> : null}
      tabs={
        <Tabs
          current={view}
          tabs={[
            { id: "open", label: "Open", href: "/inbox", count: open.length },
            { id: "snoozed", label: "Snoozed", href: "/inbox?view=snoozed", count: away.length },
            { id: "done", label: "Done", href: "/inbox?view=done" },
          ]}
        />
      }
    >
      {hive.value === undefined ? <Loading lines={6} /> : view === "done" ? <Done query={query} /> : <Rows rows={view === "open" ? open : away} view={view} query={query} />}
      {view === "open" && (facts.value?.operator_unread ?? 0) > inbox.value.length ? <p class="muted">{`${(facts.value?.operator_unread ?? 0) - inbox.value.length} older ones come up as these are done.`}</p> : null}
    </Page>
  );
}

function Done({ query }: Pick<ScreenProps, "query">): JSX.Element {
  const loaded = useLoad(async (signal) => (await request({ cmd: "inbox", all: true, limit: 300 }, { signal })).messages.filter((row) => row.done_at !== undefined), [inbox.value.length]);
  if (loaded.error) return <ErrorBox error={loaded.error} retry={loaded.reload} />;
  return loaded.value ? <Rows rows={loaded.value} view="done" query={query} /> : <Loading lines={6} />;
}

function Rows({ rows, view, query }: { rows: readonly OperatorInboxRow[]; view: View; query: ScreenProps["query"] }): JSX.Element {
  const open = Number(query["id"]);
  const at = rows.findIndex((row) => row.id === open);
  const show = (row: OperatorInboxRow | undefined): void => setQuery({ id: row ? String(row.id) : undefined });
  const current = rows[at];
  const next = (): OperatorInboxRow | undefined => rows[at + 1] ?? rows[at - 1];
  const finish = (row: OperatorInboxRow): void => {
    show(row.id === open ? next() : current);
    done([row.id], `Message of ${row.from} done`);
  };
  const putOff = (row: OperatorInboxRow, which: "hour" | "tomorrow" | "week"): void => {
    if (row.id === open) show(next());
    snooze(row.id, snoozeUntil(which, new Date()));
  };
  useActions(
    [
      { id: "inbox.next", title: "Next message", section: "Inbox", keys: "j", hidden: true, run: () => show(rows[at + 1] ?? rows[at] ?? rows[0]) },
      { id: "inbox.previous", title: "Previous message", section: "Inbox", keys: "k", hidden: true, run: () => show(rows[Math.max(0, at - 1)]) },
      { id: "inbox.close", title: "Close the message", section: "Inbox", keys: "o", hidden: true, run: () => show(undefined) },
      ...(current && view !== "done"
        ? [
            { id: "inbox.done", title: "Done with this message", section: "Inbox", keys: "e", run: () => finish(current) },
            { id: "inbox.snooze", title: "Snooze until tomorrow", section: "Inbox", keys: "z", run: () => putOff(current, "tomorrow") },
            { id: "inbox.reply", title: "Reply", section: "Inbox", keys: "r", run: () => document.querySelector<HTMLElement>(".mail.open textarea")?.focus() },
          ]
        : []),
    ],
    [rows, at, view],
  );
  if (rows.length === 0) return <Nothing view={view} />;
  const line = view === "open" ? newUpTo(rows, lastVisit.value) : -1;
  return (
    <div class="mail-list" role="list">
      {rows.map((row, place) => (
        <Fragment key={row.id}>
          {place === line ? <VisitLine /> : null}
          <Row row={row} view={view} open={row.id === open} onToggle={() => show(row.id === open ? undefined : row)} onDone={() => finish(row)} onSnooze={(which) => putOff(row, which)} />
        </Fragment>
      ))}
    </div>
  );
}

function Nothing({ view }: { view: View }): JSX.Element {
  if (view === "open") return <Empty title="Nothing here" icon="inbox" command="hyperhive inbox">Agents write to you with `send`, to the name “operator”.</Empty>;
  return <Empty title={view === "snoozed" ? "Nothing is snoozed" : "Nothing is done yet"} icon="inbox" />;
}

interface RowProps {
  row: OperatorInboxRow;
  view: View;
  open: boolean;
  onToggle: () => void;
  onDone: () => void;
  onSnooze: (which: "hour" | "tomorrow" | "week") => void;
}

function Row({ row, view, open, onToggle, onDone, onSnooze }: RowProps): JSX.Element {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (open) element.current?.scrollIntoView({ block: "nearest" });
  }, [open]);
  const until = snoozed.value[row.id];
  return (
    <div ref={element} class={`mail${open ? " open current" : ""}${view === "open" ? " unread" : ""}`} role="listitem">
      <button type="button" class="mail-row" aria-expanded={open} onClick={onToggle}>
        <span class="mail-who"><b><Text text={row.from} line /></b></span>
        <span class="mail-line"><Text text={summary(row.from, row.body)} line /></span>
        <span class="mail-side">
          {(row.file_refs?.length ?? 0) > 0 ? <Chip icon="audit" title="It names files">{String(row.file_refs?.length)}</Chip> : null}
          {view === "snoozed" && until ? <Chip icon="clock" title="Comes back"><Until at={until} prefix="back in" /></Chip> : null}
        </span>
        <span class="mail-side"><Age at={row.at} /></span>
      </button>
      {open ? (
        <div class="mail-full">
          <p class="mail-meta">
            <span>from <AgentLink name={row.from} /></span>
            <Link href={`/messages?agent=operator&with=${encodeURIComponent(row.from)}&id=${row.id}&before=${row.id + 1}`}>{`message ${row.id} in its thread`}</Link>
          </p>
          <Body id={row.id} from={row.from} body={row.body} cut={row.cut} />
          <FileRefs message={row.id} files={row.file_refs} />
          {row.from === "system" ? null : <Compose draft={`reply.${row.id}`} to={row.from} onSent={view === "open" ? onDone : undefined} />}
          {view === "done" ? null : (
            <span class="mail-do">
              <Button icon="check" keys="e" onClick={onDone}>Done</Button>
              {view === "snoozed" ? (
                <Button icon="undo" onClick={() => snooze(row.id, undefined)}>Back to the inbox</Button>
              ) : (
                <Menu label="Snooze" text="Snooze" icon="clock" items={[
                  { label: "For an hour", run: () => onSnooze("hour") },
                  { label: "Until tomorrow, 9:00", run: () => onSnooze("tomorrow") },
                  { label: "Until Monday, 9:00", run: () => onSnooze("week") },
                ]} />
              )}
            </span>
          )}
        </div>
      ) : null}
    </div>
  );
}
