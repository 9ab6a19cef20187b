// One row of the live terminal: a prefix of fixed width, a line, and a body that opens. What each kind is shown as stands
// in docs/terminal-rendering.md.
import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { clock, plural } from "../../lib/format";
import { visible, oneLine } from "../../lib/visible";
import { AgentLink, Icon, Menu, Text, toast, type IconName } from "../../ui";
import { lineOf, rawOf, textOf, type Row, type ToolRow } from "../../rows";
import { BlockView, Code, Prose } from "./blocks";
import type { AgentSession } from "./session";

interface Face {
  /** The word in the prefix column. */
  prefix: string;
  icon?: IconName;
  tone: string;
  title?: ComponentChildren;
  body?: ComponentChildren;
  /** Open from the start. */
  open: boolean;
  /** Has nothing to open: title and body are one. */
  plain?: boolean;
}

const STATE_WORDS = { running: "runs", done: "", failed: "failed", denied: "denied" } as const;

function toolFace(row: ToolRow): Face {
  const { view, result, state } = row;
  const resultOpen = row.error || (view.server === "hyperhive" && view.label === "recv");
  const count = result && !resultOpen && result.text ? result.text.split("\n").length : 0;
  return {
    prefix: view.label,
    tone: row.error ? "failed" : view.server === "hyperhive" ? "hive" : "tool",
    open: view.open || resultOpen,
    title: (
      <>
        <span class="row-words">{oneLine(view.title)}</span>
        {state !== "done" && <span class={`row-state state-${state}`}>{STATE_WORDS[state]}</span>}
        {row.progress && <span class="row-aside">{oneLine(row.progress)}</span>}
        {count > 0 && <span class="row-aside">{plural(count, "line")}</span>}
      </>
    ),
    body: (
      <>
        {view.blocks.map((block, at) => (
          <BlockView key={at} block={block} />
        ))}
        {result && (
          <div class={`row-result${result.error ? " is-error" : ""}`}>
            {result.error && <div class="row-label">error</div>}
            {result.blocks.length === 0 ? <Code text="" /> : result.blocks.map((block, at) => <BlockView key={at} block={block} />)}
          </div>
        )}
      </>
    ),
  };
}

function faceOf(row: Row): Face {
  switch (row.type) {
    case "turn_start":
      return { prefix: row.from, icon: "message", tone: "mail", open: true, plain: true,
        body: (
          <>
            <Prose text={row.body} />
            {row.unread > 0 && <div class="row-aside">{plural(row.unread, "more message")} waiting</div>}
          </>
        ) };
    case "turn_end":
      return { prefix: row.ok ? "done" : "failed", icon: row.ok ? "check" : "alert", tone: row.ok ? "ok" : "failed", open: true, plain: true,
        body: <span class="row-words">{row.ok ? "the turn ended well" : "the turn failed"}{row.note ? <>: <Text text={row.note} /></> : ""}</span> };
    case "text":
      return { prefix: row.error ? "error" : "says", tone: row.error ? "failed" : "says", open: true, plain: true, body: <Prose text={row.text} /> };
    case "thinking":
      return { prefix: "thinks", tone: "dim", open: false, title: <span class="row-words dim">{oneLine(row.text.slice(0, 200))}</span>,
        body: <div class="thought"><Prose text={row.text} /></div> };
    case "tool":
      return toolFace(row);
    case "result":
      return { prefix: "result", tone: row.error ? "failed" : "tool", open: row.error, title: <span class="row-words">{oneLine(row.result.text.slice(0, 160)) || "(nothing)"}</span>,
        body: row.result.blocks.map((block, at) => <BlockView key={at} block={block} />) };
    case "note":
      return { prefix: row.tone === "operator" ? "you" : row.tone === "cli" ? "stderr" : "note",
        ...(row.tone === "operator" ? { icon: "user" as const } : {}),
        tone: row.tone === "operator" ? "operator" : row.tone === "cli" ? "stderr" : "dim", open: true, plain: true,
        body: <Code text={row.text} /> };
    case "input":
      return { prefix: row.synthetic ? "cli" : "prompt", tone: "dim", open: false, title: <span class="row-words dim">{oneLine(row.text.slice(0, 200))}</span>, body: <Prose text={row.text} /> };
    case "system":
      return { prefix: row.label, tone: row.error ? "failed" : "dim", open: row.error, title: <span class="row-words">{oneLine(row.title)}</span>,
        ...(row.blocks.length ? { body: row.blocks.map((block, at) => <BlockView key={at} block={block} />) } : {}) };
    case "unknown":
      return { prefix: "?", tone: "dim", open: false, title: <span class="row-words">{oneLine(row.label)}</span>, body: <Code text={row.text} /> };
    case "gap":
      return { prefix: "gap", tone: "gap", open: true, plain: true };
  }
}

/** The address of a row: the turn it is in, and the event. */
export function hrefOf(name: string, row: Row): string {
  const turn = row.turn === undefined ? "" : `/t/${row.turn}`;
  return `/agents/${encodeURIComponent(name)}${turn}#e${row.eid ?? ""}`;
}

function copy(text: string, what: string): void {
  void navigator.clipboard?.writeText(text).then(
    () => toast(`${what} copied`),
    () => toast(`${what} could not be copied`, { tone: "failed" }),
  );
}

function RowMenu({ row, name }: { row: Row; name: string }) {
  return (
    <Menu
      label="Row actions"
      items={[
        { label: "Copy line", icon: "copy", run: () => copy(lineOf(row), "Line") },
        { label: "Copy all of it", icon: "copy", run: () => copy(textOf(row), "Text") },
        ...(row.eid === undefined ? [] : [{ label: "Copy link", icon: "link" as const, run: () => copy(location.origin + hrefOf(name, row), "Link") }]),
        { label: "Copy raw JSON", icon: "copy", run: () => copy(rawOf(row), "JSON") },
      ]}
    />
  );
}

interface RowProps {
  row: Row;
  session: AgentSession;
  /** What the reader opened or closed, for this row; undefined: as its kind says. */
  opened: boolean | undefined;
  openedMap: ReadonlyMap<string, boolean>;
  current: string | undefined;
  hits?: boolean;
}

function GapRowView({ row, session }: { row: Extract<Row, { type: "gap" }>; session: AgentSession }) {
  const { after, to } = row;
  const busy = session.busy.value === "gap";
  return (
    <div class="lrow tone-gap" role="separator" data-key={row.key}>
      <span class="row-prefix">gap</span>
      <span class="row-main">
        {plural(row.missing, "event")} {after === undefined ? "not kept any more" : "not loaded"}
        {after !== undefined && to !== undefined && (
          <button type="button" class="more" disabled={busy} onClick={() => void session.loadGap(after, to)}>
            {busy ? "loading…" : "load"}
          </button>
        )}
      </span>
    </div>
  );
}

export const RowView = memo(function RowView({ row, session, opened, openedMap, current, hits }: RowProps) {
  if (row.type === "gap") return <GapRowView row={row} session={session} />;
  const face = faceOf(row);
  const foldable = !face.plain && face.body !== undefined;
  const open = face.plain || (foldable && (opened ?? face.open));
  const isCurrent = current === row.key;
  const children = row.type === "tool" ? row.children : [];
  return (
    <div
      id={row.eid === undefined ? undefined : `e${row.eid}`}
      data-key={row.key}
      data-kind={row.type}
      class={`lrow tone-${face.tone}${row.error ? " has-error" : ""}${isCurrent ? " current" : ""}`}
    >
      <span class="row-prefix" title={visible(face.prefix)}>
        {row.type === "turn_start" ? <AgentLink name={row.from} /> : <>{face.icon && <Icon name={face.icon} size={12} />}<span>{oneLine(face.prefix)}</span></>}
      </span>
      <div class="row-main">
        {face.title !== undefined &&
          (foldable ? (
            <button type="button" class="row-title" aria-expanded={open} onClick={() => session.setOpen(row.key, !open)}>
              <Icon name="down" size={12} class={`twist${open ? "" : " shut"}`} />
              {face.title}
            </button>
          ) : (
            <div class="row-title flat">{face.title}</div>
          ))}
        {open && face.body !== undefined && <div class="row-body">{face.body}</div>}
        {children.length > 0 && (
          <div class="row-children">
            {children.map((child) => (
              <RowView key={child.key} row={child} session={session} opened={openedMap.get(child.key)} openedMap={openedMap} current={current} />
            ))}
          </div>
        )}
      </div>
      <span class="row-side">
        {hits && row.eid !== undefined && (
          <a data-link="" class="more" href={hrefOf(session.name, row)}>
            in context
          </a>
        )}
        {row.at !== undefined && <time class="row-time" dateTime={new Date(row.at * 1000).toISOString()} title={new Date(row.at * 1000).toString()}>{clock(row.at)}</time>}
        <RowMenu row={row} name={session.name} />
      </span>
    </div>
  );
}, same);

/** Drawn again only when something of it changed; `openedMap` and `current` count where there is something below. */
function same(before: RowProps, after: RowProps): boolean {
  if (before.row !== after.row || before.opened !== after.opened || before.hits !== after.hits) return false;
  const nested = after.row.type === "tool" && after.row.children.length > 0;
  if (nested && (before.openedMap !== after.openedMap || before.current !== after.current)) return false;
  return (before.current === before.row.key) === (after.current === after.row.key);
}
