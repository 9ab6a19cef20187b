// One agent: its live terminal, its badges, its mail and loose ends, and the box to write to it. `/agents/NAME` shows the
// newest, `/agents/NAME/t/TURN#eEID` an event with what is round it, `/agents/NAME/turns?failed=1` the list of turns.
import { useEffect, useMemo, useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { bytes } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import { briefly } from "../../lib/needs";
import type { TurnRow } from "../../lib/protocol";
import { Link, navigate, place, setQuery } from "../../lib/router";
import { settings } from "../../lib/settings";
import { container, hive, hiveError, needsYou, tombstones } from "../../lib/store";
import { Age, Banner, Button, Empty, ErrorBox, IconButton, Loading, Page, Tabs } from "../../ui";
import { KINDS, parseQuery, type Filter, type Kind } from "../../rows";
import { Composer } from "./composer";
import { Badges, Heading, Lifecycle } from "./header";
import { Hits } from "./hits";
import { LoginDialog } from "./login";
import { InboxPanel, LooseEnds } from "./panel";
import { firstOf } from "./past";
import { sessionOf, type AgentSession } from "./session";
import { Terminal } from "./terminal";
import { Turns, Why } from "./turns";
import "./css/index.css";

interface Props {
  params: Readonly<Record<string, string>>;
  query: Readonly<Record<string, string>>;
}

export default function Screen({ params, query }: Props) {
  const name = params["name"] ?? "";
  const known = hive.value !== undefined;
  if (!known && !hiveError.value) return <Page title={name}><Loading lines={8} /></Page>;
  if (known && container(name).value === undefined) return <Gone name={name} />;
  return <AgentPage key={name} name={name} params={params} query={query} />;
}

/** No such agent: it was destroyed, and can come back; or there never was one. */
function Gone({ name }: { name: string }) {
  const tombstone = tombstones.value.find((each) => each.name === name);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const restore = (): void => {
    setBusy(true);
    setError(undefined);
    request({ cmd: "restore", name })
      .catch((failed: unknown) => setError(asApiError(failed)))
      .finally(() => setBusy(false));
  };
  return (
    <Page title={name} heading={<Heading name={name} view={undefined} />}>
      {tombstone ? (
        <Empty title={`${name} was destroyed`} icon="archive" command={`hyperhive restore ${name}`}>
          <p>
            Its state is kept{tombstone.size_bytes === undefined ? "" : `, ${bytes(tombstone.size_bytes)}`}
            {tombstone.destroyed_at !== undefined && <> (<Age sentence at={tombstone.destroyed_at} prefix="destroyed" />)</>}.
          </p>
          <p>
            <Button kind="primary" icon="undo" busy={busy} onClick={restore}>Restore</Button>
          </p>
        </Empty>
      ) : (
        <Empty title={`There is no agent ${name}`} command={`hyperhive spawn ${name}`}>It may have been purged, or the link be wrong.</Empty>
      )}
      {error && <ErrorBox error={error} />}
    </Page>
  );
}

function AgentPage({ name, params, query }: Props & { name: string }) {
  const session = useMemo(() => sessionOf(name), [name]);
  useEffect(() => {
    session.open();
  }, [session]);
  const view = container(name).value;
  const facts = session.facts.value;
  const [login, setLogin] = useState(false);
  useEffect(() => {
    if (query["login"] === "1") setLogin(true); // also where a notification leads here from here
  }, [query["login"]]);
  const tab = params["tab"] === "turns" ? "turns" : params["tab"] === "mail" ? "mail" : "live";
  const page = `/agents/${encodeURIComponent(name)}`;
  const busy = facts.state === "thinking" || facts.state === "compacting";
  // Asked anew whenever a turn begins or ends.
  const turns = useLoad((stop) => request({ cmd: "turns", name, limit: 100 }, { signal: stop }), [name, facts.state === "idle", facts.since]);
  const byTurn = useMemo(() => new Map((turns.value?.turns ?? []).toReversed().flatMap((row): [number, TurnRow][] => (row.turn === undefined ? [] : [[row.turn, row]]))), [turns.value]);
  const last = turns.value?.turns[0];
  useActions(
    [
      { id: "agent.live", title: `${name}: live`, section: name, run: () => navigate(page) },
      { id: "agent.turns", title: `${name}: turns`, section: name, run: () => navigate(`${page}/turns`) },
      { id: "agent.failed", title: `${name}: turns that failed`, section: name, run: () => navigate(`${page}/turns?failed=1`) },
      { id: "agent.stats", title: `${name}: statistics`, section: name, run: () => navigate(`${page}/stats`) },
      { id: "agent.login", title: `Log ${name} in`, section: name, run: () => setLogin(true) },
    ],
    [name],
  );
  return (
    <div class="agent-page">
      <Page
        wide
        title={name}
        heading={<Heading name={name} view={view} />}
        actions={<Lifecycle name={name} view={view} facts={facts} />}
        tabs={
          <>
            <Badges name={name} view={view} facts={facts} last={last} onLogin={() => setLogin(true)} />
            <Tabs
              label={`Views of ${name}`}
              current={tab}
              tabs={[
                { id: "live", label: "Live", href: page },
                { id: "turns", label: "Turns", href: `${page}/turns` },
                { id: "mail", label: "Mail", href: `${page}/mail`, count: view?.unread ?? 0 },
                { id: "stats", label: "Stats", href: `${page}/stats` },
                { id: "config", label: "Config", href: `/config/${encodeURIComponent(name)}` },
              ]}
            />
          </>
        }
      >
        {tab === "turns" ? (
          <Turns name={name} query={query} />
        ) : tab === "mail" ? (
          <div class="agent-mail">
            <LooseEnds name={name} />
            <InboxPanel name={name} />
          </div>
        ) : (
          <Live session={session} params={params} query={query} turns={byTurn} busy={busy} needsLogin={(view?.needs_login ?? false) || facts.login !== "online"} onLogin={() => setLogin(true)} />
        )}
      </Page>
      {login && <LoginDialog session={session} onClose={() => { setLogin(false); setQuery({ login: undefined }); }} />}
    </div>
  );
}

interface LiveProps extends Props {
  session: AgentSession;
  turns: ReadonlyMap<number, TurnRow>;
  busy: boolean;
  needsLogin: boolean;
  onLogin(): void;
}

function Live({ session, params, query, turns, busy, needsLogin, onLogin }: LiveProps) {
  const { name } = session;
  const filter = useMemo((): Filter => {
    const kinds = (query["kind"] ?? "").split(",").filter((each): each is Kind => (KINDS as readonly string[]).includes(each));
    return { q: query["q"] ?? "", kinds: new Set(kinds), errors: query["errors"] === "1" };
  }, [query["q"], query["kind"], query["errors"]]);
  const turn = Number(params["turn"]) || undefined;
  const hash = place.value.hash;
  const missing = useJump(session, turn, hash);
  const facts = turn === undefined ? undefined : turns.get(turn);
  const searching = query["all"] === "1" && filter.q !== "";
  return (
    <div class="agent-grid">
      <div class="agent-main">
        <FilterBar filter={filter} query={query} session={session} />
        <Waiting name={name} />
        {needsLogin && (
          <Banner tone="needs" icon="key" action={<Button small kind="primary" onClick={onLogin}>Log in</Button>}>
            {name} is not logged in. Its mail waits.
          </Banner>
        )}
        {turn !== undefined && (
          <div class={`turn-card${facts && facts.result_kind !== "ok" ? " failed" : ""}`}>
            <div class="turn-card-head">
              <span>Turn {turn}</span>
              <Link class="more" href={`/agents/${encodeURIComponent(name)}`} onClick={() => void session.toEnd()}>back to live</Link>
            </div>
            {missing && <p class="muted">Its events are not kept any more.</p>}
            {facts && facts.result_kind !== "ok" && <TurnWhy name={name} turn={turn} />}
          </div>
        )}
        {searching ? <Hits session={session} q={filter.q} /> : <Terminal session={session} filter={filter} turns={turns} busy={busy} />}
        <Composer name={name} busy={busy} model={session.facts.value.model} />
      </div>
      <aside class="agent-side" aria-label="Mail and loose ends">
        <LooseEnds name={name} />
        <InboxPanel name={name} />
      </aside>
    </div>
  );
}

/** Where the panel beside the terminal has no room: what of the agent's waits for the operator, a tap away. */
function Waiting({ name }: { name: string }) {
  const items = needsYou.value.filter((each) => each.agent === name && (each.kind === "question" || each.kind === "approval"));
  const first = items[0];
  if (!first) return null;
  return (
    <div class="narrow-only">
      <Banner tone="needs" icon="bell" action={<Button small kind="primary" onClick={() => navigate(`/agents/${encodeURIComponent(name)}/mail`)}>Answer</Button>}>
        {name} {briefly(first)}
        {items.length > 1 && ` (+${items.length - 1})`}
      </Banner>
    </div>
  );
}

/** Why the turn failed, with what only the server knows of it. */
function TurnWhy({ name, turn }: { name: string; turn: number }) {
  const found = useLoad((stop) => request({ cmd: "turns", name, turn }, { signal: stop }), [name, turn]);
  const row = found.value?.turns.find((each) => each.turn === turn);
  return row ? <Why name={name} row={row} /> : null;
}

/** So long what an address named is held in sight while the page settles; a touch of the reader's ends it. */
const SETTLE_MS = 1500;

/** Shows the event or the turn of the address; whether it is not kept any more. */
function useJump(session: AgentSession, turn: number | undefined, hash: string): boolean {
  const [missing, setMissing] = useState(false);
  const loaded = session.loaded.value;
  useEffect(() => {
    if (!loaded) return;
    let gone = false;
    const go = async (): Promise<void> => {
      const named = /^e(\d+)$/.exec(hash);
      const eid = named ? Number(named[1]) : turn === undefined ? undefined : await firstOf(session.name, turn);
      if (gone || eid === undefined) return setMissing(turn !== undefined && !gone);
      session.follow(false);
      const key = await session.jump(eid);
      if (gone) return;
      setMissing(key === undefined);
      if (key === undefined) return;
      if (named) session.setOpen(key, true);
      session.pin = { key, block: named ? "center" : "start", until: performance.now() + SETTLE_MS };
      session.follow(false);
      requestAnimationFrame(() => document.querySelector(`.log-box [data-key="${CSS.escape(key)}"]`)?.scrollIntoView({ block: named ? "center" : "start" }));
    };
    void go();
    return () => {
      gone = true;
    };
  }, [session, turn, hash, loaded]);
  return missing;
}

const KIND_WORDS: Readonly<Record<Kind, string>> = { mail: "mail", says: "says", thinks: "thinks", tools: "tools", notes: "notes", system: "system" };

function FilterBar({ filter, query, session }: { filter: Filter; query: Props["query"]; session: AgentSession }) {
  const fault = parseQuery(filter.q).fault;
  const toggle = (kind: Kind): void => {
    const kinds = new Set(filter.kinds);
    if (!kinds.delete(kind)) kinds.add(kind);
    setQuery({ kind: [...kinds].join(",") || undefined });
  };
  useActions([{ id: "log.search", title: "Search this agent's log", section: "Log", keys: "/", run: () => document.querySelector<HTMLInputElement>("#log-search")?.focus() }]);
  const paused = session.paused.value;
  return (
    <div class="filter-bar" role="search">
      <input
        id="log-search"
        class="input"
        type="search"
        autocomplete="off"
        placeholder="Search, !without, /regex/"
        aria-label="Search the log"
        aria-invalid={fault !== undefined || undefined}
        title={fault}
        value={filter.q}
        onInput={(event) => setQuery({ q: event.currentTarget.value, all: undefined })}
        onKeyDown={(event) => {
          if (event.key === "Enter" && filter.q) setQuery({ all: "1" });
          if (event.key === "Escape") {
            setQuery({ q: undefined, all: undefined });
            event.currentTarget.blur();
          }
        }}
      />
      {filter.q !== "" && (
        <Button small icon="search" onClick={() => setQuery({ all: query["all"] === "1" ? undefined : "1" })} aria-pressed={query["all"] === "1"}>
          {query["all"] === "1" ? "Only loaded" : "All that is kept"}
        </Button>
      )}
      <div class="kind-chips" role="group" aria-label="Show only">
        {KINDS.map((kind) => (
          <button key={kind} type="button" class={`chip chip-btn${filter.kinds.has(kind) ? " on" : ""}`} aria-pressed={filter.kinds.has(kind)} title={`Show only rows of this kind: ${KIND_WORDS[kind]}`} onClick={() => toggle(kind)}>
            {KIND_WORDS[kind]}
          </button>
        ))}
        <button type="button" class={`chip chip-btn tone-failed${filter.errors ? " on" : ""}`} aria-pressed={filter.errors} title="Show only errors" onClick={() => setQuery({ errors: filter.errors ? undefined : "1" })}>
          errors
        </button>
      </div>
      <span class="filter-tools">
        <IconButton icon={paused ? "play" : "pause"} label={paused ? "Resume (p)" : "Pause (p)"} onClick={() => session.pause(!paused)} />
        <button type="button" class={`chip chip-btn${settings.wrap.value ? " on" : ""}`} aria-pressed={settings.wrap.value} title="Wrap long lines (w)" onClick={() => (settings.wrap.value = !settings.wrap.value)}>
          wrap
        </button>
      </span>
    </div>
  );
}
