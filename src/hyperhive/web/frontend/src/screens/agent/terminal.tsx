// The live terminal: turns and their rows, following the end while the reader is there, and leaving the reader alone
// elsewhere. What is loaded is the session's affair; what a row looks like, `row-view`'s.
import { memo } from "preact/compat";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { durationLong, money, plural, tokens } from "../../lib/format";
import { useActions } from "../../lib/keys";
import type { TurnRow } from "../../lib/protocol";
import { settings } from "../../lib/settings";
import { oneLine } from "../../lib/visible";
import { Age, Button, ErrorBox, Icon, Loading, Empty } from "../../ui";
import { filters, firstLine, rowTest, type Filter, type Row, type TurnGroup } from "../../rows";
import { RowView } from "./row-view";
import type { AgentSession } from "./session";
import { RESULTS } from "./turn-words";

const NEAR = 32;

interface TurnProps {
  group: TurnGroup;
  rows: readonly Row[];
  session: AgentSession;
  shut: boolean;
  opened: ReadonlyMap<string, boolean>;
  current: string | undefined;
  facts: TurnRow | undefined;
}

const Turn = memo(function Turn({ group, rows, session, shut, opened, current, facts }: TurnProps) {
  const { turn, start, end } = group;
  if (turn === undefined)
    return (
      <div class="turn between">
        <Rows {...{ rows, session, opened, current }} />
      </div>
    );
  const running = !end && !facts;
  const result = facts?.result_kind;
  const failed = end ? !end.ok : result !== undefined && result !== "ok";
  return (
    <section class={`turn${failed ? " turn-failed" : running ? " turn-running" : ""}`} id={`t${turn}`} aria-label={`Turn ${turn}`}>
      <header class="turn-head">
        <button type="button" class="turn-title" aria-expanded={!shut} onClick={() => session.setOpen(group.key, shut)}>
          <Icon name="down" size={12} class={`twist${shut ? " shut" : ""}`} />
          <span class="turn-number">Turn {turn}</span>
          <span class={`turn-result tone-${failed ? "failed" : running ? "working" : "ok"}`}>
            {running ? "runs" : failed ? RESULTS[result ?? "failed"]?.word ?? "failed" : "ok"}
          </span>
          {shut && start && <span class="turn-gist">{oneLine(firstLine(start.body, 90))}</span>}
        </button>
        <span class="turn-facts">
          {group.errors > 0 && !failed && <span class="tone-failed">{plural(group.errors, "error")}</span>}
          {group.calls > 0 && <span>{plural(group.calls, "call")}</span>}
          {facts && <span title="How long the turn took">{durationLong(facts.duration_ms / 1000)}</span>}
          {facts && <span class="wide-only" title="Tokens that came out of the model">{tokens(facts.output_tokens)} out</span>}
          {facts !== undefined && (facts.cost ?? 0) > 0 && <span class="wide-only" title="By the CLI's list price">{money(facts.cost)}</span>}
          {start?.at !== undefined && <Age at={start.at} />}
        </span>
      </header>
      {!shut && <Rows {...{ rows, session, opened, current }} />}
    </section>
  );
});

function Rows({ rows, session, opened, current }: Pick<TurnProps, "rows" | "session" | "opened" | "current">) {
  return (
    <>
      {rows.map((row) => (
        <RowView key={row.key} row={row} session={session} opened={opened.get(row.key)} openedMap={opened} current={current} />
      ))}
    </>
  );
}

interface Line {
  key: string;
  top: number;
}

/** The first row that is seen, and where it is on the screen. Rows stand in order, so halving finds it. */
function firstVisible(box: HTMLElement | null): Line | undefined {
  if (!box) return undefined;
  const edge = box.getBoundingClientRect().top;
  const rows = box.querySelectorAll<HTMLElement>(".turn > .lrow");
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as HTMLElement).getBoundingClientRect().bottom <= edge) low = middle + 1;
    else high = middle;
  }
  const row = rows[low];
  return row && { key: row.dataset["key"] ?? "", top: row.getBoundingClientRect().top };
}

/** Whether the log may run on under the reader: not while it is paused, nor while a row's menu is open. */
function mayScroll(session: AgentSession, box: HTMLElement): boolean {
  return !session.paused.peek() && !box.querySelector('[aria-haspopup="menu"][aria-expanded="true"]');
}

/** Whether a row is held in sight; then it is. */
function showPin(session: AgentSession, box: HTMLElement): boolean {
  const { pin } = session;
  if (!pin || !session.pinned) return false;
  box.querySelector(`[data-key="${CSS.escape(pin.key)}"]`)?.scrollIntoView({ block: pin.block });
  return true;
}

export interface TerminalProps {
  session: AgentSession;
  filter: Filter;
  turns: ReadonlyMap<number, TurnRow>;
  /** The agent works: what streams in is not read out. */
  busy: boolean;
}

/** What is shown of each turn under a filter; kept while neither changes. */
function useShown(groups: readonly TurnGroup[], filter: Filter): { group: TurnGroup; rows: readonly Row[] }[] {
  const memory = useMemo(() => ({ test: rowTest(filter), found: new WeakMap<TurnGroup, readonly Row[]>() }), [filter]);
  if (!filters(filter)) return groups.map((group) => ({ group, rows: group.rows }));
  return groups.flatMap((group) => {
    let rows = memory.found.get(group);
    if (!rows) memory.found.set(group, (rows = group.rows.filter(memory.test)));
    return rows.length ? [{ group, rows }] : [];
  });
}

export function Terminal({ session, filter, turns, busy }: TerminalProps) {
  const box = useRef<HTMLDivElement>(null);
  const held = useRef<Line | undefined>(undefined);
  const version = session.version.value;
  const groups = useMemo(() => session.model.groups(), [session, version]);
  const shown = useShown(groups, filter);
  const opened = session.opened.value;
  const current = session.current.value;
  const filtering = filters(filter);

  const toEnd = useCallback(() => {
    void session.toEnd().then(() => box.current?.scrollTo({ top: box.current.scrollHeight }));
  }, [session]);

  // Where the reader was when this page was left.
  useLayoutEffect(() => {
    if (session.scroll !== undefined && box.current) box.current.scrollTop = session.scroll;
    return () => {
      session.scroll = session.following ? undefined : box.current?.scrollTop;
    };
  }, [session]);

  // Who reads further up keeps the line in place that is at the top, whatever comes or goes above and below it.
  useEffect(
    () =>
      session.version.subscribe(() => {
        held.current = session.following ? undefined : firstVisible(box.current);
      }),
    [session],
  );
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const line = held.current && element.querySelector(`[data-key="${CSS.escape(held.current.key)}"]`);
    if (line && held.current) element.scrollTop += line.getBoundingClientRect().top - held.current.top;
    else if (!showPin(session, element) && session.following && mayScroll(session, element)) element.scrollTop = element.scrollHeight;
    held.current = undefined;
  });

  // What opens late (the markdown chunk, a font) must not push the end out of sight.
  useEffect(() => {
    const element = box.current;
    const inner = element?.firstElementChild;
    if (!element || !inner) return;
    const watch = new ResizeObserver(() => {
      if (!showPin(session, element) && session.following && mayScroll(session, element)) element.scrollTop = element.scrollHeight;
    });
    watch.observe(inner);
    return () => watch.disconnect();
  }, [session]);

  const scrolled = (): void => {
    const element = box.current;
    if (!element) return;
    const end = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
    session.follow(end);
  };

  const unpin = (): void => {
    session.pin = undefined;
  };

  const older = (): void => {
    void session.loadOlder();
  };

  const keys = useMemo(() => shown.flatMap(({ group, rows }) => (opened.get(group.key) === false ? [] : rows)).map((row) => row.key), [shown, opened]);
  const move = (by: number): void => {
    const now = session.current.peek();
    const at = now === undefined ? (by > 0 ? -1 : keys.length) : keys.indexOf(now);
    const next = keys[Math.max(0, Math.min(keys.length - 1, at + by))];
    if (next === undefined) return;
    session.current.value = next;
    requestAnimationFrame(() => box.current?.querySelector(`[data-key="${CSS.escape(next)}"]`)?.scrollIntoView({ block: "nearest" }));
  };
  useActions(
    [
      { id: "log.next", title: "Next row", section: "Log", keys: "j", run: () => move(1), hidden: true },
      { id: "log.previous", title: "Previous row", section: "Log", keys: "k", run: () => move(-1), hidden: true },
      { id: "log.end", title: "To the newest event", section: "Log", keys: "G", run: toEnd },
      { id: "log.end2", title: "To the newest event", section: "Log", keys: "end", run: toEnd, hidden: true },
      { id: "log.pause", title: "Pause or resume the log", section: "Log", keys: "p", run: () => session.pause(!session.paused.peek()) },
      { id: "log.older", title: "Load older events", section: "Log", run: older, when: () => session.hasOlder.value },
      { id: "log.wrap", title: "Wrap long lines", section: "Log", keys: "w", run: () => (settings.wrap.value = !settings.wrap.value) },
      { id: "log.collapse", title: "Collapse all turns", section: "Log", run: () => groups.forEach((group) => group.turn !== undefined && session.setOpen(group.key, false)) },
      { id: "log.expand", title: "Expand all turns", section: "Log", run: () => groups.forEach((group) => group.turn !== undefined && session.setOpen(group.key, true)) },
      {
        id: "log.toggle", title: "Open or close the row", section: "Log", keys: "enter", hidden: true,
        run: () => box.current?.querySelector<HTMLButtonElement>(".lrow.current > .row-main > button.row-title")?.click(),
      },
    ],
    [session, keys, groups],
  );

  const fresh = session.fresh.value;
  const paused = session.paused.value;
  const detached = session.detached.value;
  const working = session.busy.value;
  const away = detached || paused || fresh > 0;
  const total = shown.reduce((sum, each) => sum + each.rows.length, 0);
  const at = current === undefined ? -1 : keys.indexOf(current);
  return (
    <div class={`log${settings.wrap.value ? "" : " nowrap"}`}>
      {filtering && (
        <div class="log-found">
          {at >= 0 ? `${at + 1} of ` : ""}
          {plural(total, "row")} of those loaded
        </div>
      )}
      <div class="log-box" ref={box} onScroll={scrolled} onWheel={unpin} onPointerDown={unpin} onTouchMove={unpin} onKeyDown={unpin} role="log" aria-label={`Events of ${session.name}`} aria-live={busy || away || working !== "" ? "off" : "polite"} aria-relevant="additions" tabIndex={0}>
        <div class="log-inner">
          {session.error.value && <ErrorBox error={session.error.value} retry={() => void session.toEnd()} />}
          {!session.loaded.value ? (
            !session.error.value && <Loading lines={8} />
          ) : session.hasOlder.value ? (
            <div class="log-edge">
              <Button small busy={working === "older"} icon="up" onClick={older}>
                Load older
              </Button>
            </div>
          ) : groups.length > 0 ? (
            <div class="log-edge muted">Nothing older is kept</div>
          ) : (
            <Empty title="Nothing has happened here yet">Write it a message below: its turns appear here as they run.</Empty>
          )}
          {shown.map(({ group, rows }) => (
            <Turn
              key={group.key}
              group={group}
              rows={rows}
              session={session}
              shut={!filtering && opened.get(group.key) === false}
              opened={opened}
              current={current}
              facts={group.turn === undefined ? undefined : turns.get(group.turn)}
            />
          ))}
          {filtering && total === 0 && groups.length > 0 && <Empty title="No loaded row is like that">Load older events, or search everything that is kept.</Empty>}
          {detached && (
            <div class="log-edge">
              <Button small busy={working === "newer"} icon="down" onClick={() => void session.loadNewer()}>
                Load newer
              </Button>
            </div>
          )}
        </div>
      </div>
      {away && (
        <button type="button" class="to-end" onClick={toEnd}>
          <Icon name="down" size={14} />
          {paused ? (fresh > 0 ? `Paused · ${fresh} new` : "Paused") : fresh > 0 ? `${fresh} new` : "To the newest"}
        </button>
      )}
    </div>
  );
}
