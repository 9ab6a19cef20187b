// The fleet: every agent in one dense table, those that need the operator first. What is chosen stands in the URL.
import { useComputed, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { useActions } from "../../lib/keys";
import type { ContainerView } from "../../lib/protocol";
import { navigate, setQuery } from "../../lib/router";
import { settings } from "../../lib/settings";
import { act, containers, tombstones } from "../../lib/store";
import { now } from "../../lib/time";
import { plural } from "../../lib/format";
import { Button, Empty, Menu, Page, Select, STATES, TextInput } from "../../ui";
import { FleetBanners } from "./banners";
import { Bulk } from "./bulk";
import { Digest } from "./digest";
import { SpawnDialog, StopAllDialog, UpdateAllDialog } from "./dialogs";
import { COLUMNS, GROUP_ORDER, grouped, held, matches, SORTS, type Group, type Sort } from "./model";
import { Row } from "./row";
import { Tombstones } from "./tombstones";
import "./fleet.css";

const SORT_WORDS: Record<Sort, string> = { name: "Name", age: "Longest in its state", unread: "Most unread", context: "Largest context", budget: "Most of its budget" };

/** Words that are no agent's may be in a message or a turn. */
const everywhere = (words: string): string => `/search?q=${encodeURIComponent(words.trim())}`;

type Open = "spawn" | "request-spawn" | "stop-all" | "update-all" | undefined;

export default function Screen({ query }: ScreenProps): VNode {
  const filter = query["q"] ?? "";
  const only = query["state"];
  const sort: Sort = SORTS.find((each) => each === query["sort"]) ?? "name";
  const [open, setOpen] = useState<Open>();
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const current = useSignal<string | undefined>(undefined);
  const peeked = useSignal<string | undefined>(undefined);
  const all = containers.value;
  const groups = useStill(all, filter, only, sort);
  const shown = groups.flatMap((group) => group.agents);
  const outdated = all.filter((agent) => agent.needs_update);
  const running = all.filter((agent) => agent.running);

  const move = (by: number): void => {
    const at = shown.findIndex((agent) => agent.name === current.value);
    const next = shown[Math.max(0, Math.min(shown.length - 1, at + by))];
    if (!next) return;
    current.value = next.name;
    if (peeked.value !== undefined) peeked.value = next.name; // a look goes along from row to row
    document.getElementById(`agent-${next.name}`)?.scrollIntoView({ block: "nearest" });
  };
  const select = (name: string): void => {
    const chosen = new Set(selected.value);
    if (!chosen.delete(name)) chosen.add(name);
    selected.value = chosen;
  };
  const peek = (): void => {
    current.value ??= shown[0]?.name;
    peeked.value = peeked.value === current.value ? undefined : current.value;
  };
  const selectAll = (): void => void (selected.value = new Set(shown.map((agent) => agent.name)));
  const here = (): ContainerView | undefined => all.find((agent) => agent.name === current.value);

  useActions(
    [
      { id: "fleet:down", title: "Next agent", keys: "j", section: "Agents", hidden: true, run: () => move(1) },
      { id: "fleet:up", title: "Previous agent", keys: "k", section: "Agents", hidden: true, run: () => move(-1) },
      { id: "fleet:down-arrow", title: "Next agent", keys: "arrowdown", section: "Agents", hidden: true, run: () => move(1) },
      { id: "fleet:up-arrow", title: "Previous agent", keys: "arrowup", section: "Agents", hidden: true, run: () => move(-1) },
      { id: "fleet:open", title: "Open agent", keys: "enter", section: "Agents", hidden: true, when: () => here() !== undefined, run: () => navigate(`/agents/${here()!.name}`) },
      { id: "fleet:peek", title: "Peek into the agent, or close it", keys: "space", section: "Agents", hidden: true, when: () => shown.length > 0, run: peek },
      { id: "fleet:select", title: "Select agent", keys: "x", section: "Agents", hidden: true, when: () => here() !== undefined, run: () => select(here()!.name) },
      { id: "fleet:clear", title: "Clear selection and filter", keys: "escape", section: "Agents", hidden: true, when: () => selected.value.size > 0 || filter !== "", run: () => ((selected.value = new Set()), setQuery({ q: undefined, state: undefined })) },
      { id: "fleet:unpeek", title: "Close the peek", keys: "escape", section: "Agents", hidden: true, when: () => peeked.value !== undefined, run: () => (peeked.value = undefined) },
      { id: "fleet:spawn", title: "New agent", section: "Agents", words: "spawn create", run: () => setOpen("spawn") },
      { id: "fleet:request-spawn", title: "Ask for a new agent", section: "Agents", words: "spawn approval", run: () => setOpen("request-spawn") },
      { id: "fleet:stop-all", title: "Stop all agents", section: "Agents", words: "kill halt", run: () => setOpen("stop-all") },
      { id: "fleet:update-all", title: "Update all that need it", section: "Agents", run: () => setOpen("update-all") },
      ...all.flatMap((agent) => [
        agent.running
          ? { id: `stop:${agent.name}`, title: `Stop ${agent.name}`, section: "Agents", words: "kill", run: () => void act(agent.name, { cmd: "kill", name: agent.name }, "stopping") }
          : { id: `start:${agent.name}`, title: `Start ${agent.name}`, section: "Agents", run: () => void act(agent.name, { cmd: "start", name: agent.name }, "starting") },
      ]),
    ],
    [all, filter, shown],
  );

  return (
    <Page
      title="Agents"
      wide
      actions={
        <>
          {outdated.length > 0 && (
            <Button icon="update" onClick={() => setOpen("update-all")}>
              Update all ({outdated.length})
            </Button>
          )}
          {running.length > 0 && (
            <Button kind="danger" icon="stop" onClick={() => setOpen("stop-all")}>
              Stop all
            </Button>
          )}
          <Button kind="primary" icon="plus" onClick={() => setOpen("spawn")}>
            New agent
          </Button>
          <Menu label="More" items={[{ label: "Ask for a new agent", icon: "approvals", run: () => setOpen("request-spawn") }, { label: "Select all that are shown", icon: "check", run: selectAll }, { label: "Spend by agent and day", icon: "chart", run: () => navigate("/stats") }]} />
        </>
      }
    >
      <FleetBanners agents={all} />
      <Digest />
      {all.length === 0 ? (
        <Empty title="No agents yet" icon="agents" command="hyperhive spawn alice">
          <p>An agent keeps its inbox, its session and its files until you destroy it. Create the first one here or in a terminal.</p>
          <Button kind="primary" icon="plus" onClick={() => setOpen("spawn")}>
            New agent
          </Button>
        </Empty>
      ) : (
        <>
          <div class="fleet-bar">
            <div class="fleet-filter">
              <TextInput
                data-search
                type="search"
                aria-label="Filter agents"
                placeholder="Filter: name, model, !word, update:needed…"
                value={filter}
                onValue={(q) => setQuery({ q })}
                onKeyDown={(event) => {
                  if (event.key === "Escape") {
                    setQuery({ q: undefined });
                    event.currentTarget.blur();
                  } else if (event.key === "Enter" && shown[0]) navigate(`/agents/${shown[0].name}`);
                  else if (event.key === "Enter" && filter.trim()) navigate(everywhere(filter));
                }}
              />
            </div>
            <Counts all={all} only={only} />
            <div class="fleet-view">
              <label class="fleet-sort">
                <span class="muted">Sort</span>
                <Select options={SORTS.map((value) => ({ value, label: SORT_WORDS[value] }))} value={sort} onValue={(value) => setQuery({ sort: value === "name" ? undefined : value })} />
              </label>
              <Columns />
            </div>
          </div>
          {selected.value.size > 0 && <Bulk names={[...selected.value]} onDone={() => (selected.value = new Set())} />}
          {shown.length === 0 ? (
            <Empty title="No agent matches" icon="filter">
              <p>
                {plural(all.length, "agent")} in all. <Button small onClick={() => setQuery({ q: undefined, state: undefined })}>Clear the filter</Button>{" "}
                {filter.trim() && (
                  <Button small icon="search" keys="enter" onClick={() => navigate(everywhere(filter))}>
                    Search messages and turns for it
                  </Button>
                )}
              </p>
            </Empty>
          ) : (
            <div class={`fleet ${settings.hiddenColumns.value.map((id) => `hide-${id}`).join(" ")}`} role="table" aria-label="Agents" aria-rowcount={shown.length}>
              {groups.map((group) => (
                <div key={group.state} role="rowgroup" class={`fleet-group tone-${STATES[group.state].tone}`} aria-label={STATES[group.state].word}>
                  <div role="row" class="fleet-heading">
                    <span role="columnheader">
                      {STATES[group.state].word} <span class="count">{group.agents.length}</span>
                    </span>
                  </div>
                  {group.agents.map((agent) => (
                    <Row key={agent.name} agent={agent} filter={filter} selected={selected} current={current} peeked={peeked} onSelect={select} />
                  ))}
                </div>
              ))}
            </div>
          )}
        </>
      )}
      <Tombstones tombstones={tombstones.value} />
      {open === "spawn" && <SpawnDialog onClose={() => setOpen(undefined)} />}
      {open === "request-spawn" && <SpawnDialog ask onClose={() => setOpen(undefined)} />}
      {open === "stop-all" && <StopAllDialog agents={running} onClose={() => setOpen(undefined)} />}
      {open === "update-all" && <UpdateAllDialog agents={outdated} onClose={() => setOpen(undefined)} />}
    </Page>
  );
}

/** After a finger has left the table, its rows stay for so long: the next tap is on its way to what was seen. */
const FINGER_MS = 2000;
const FINGER = ["pointerdown", "pointerup", "pointercancel"] as const;

/** A row that changes its group is made anew: not while a dialog or a menu of it is open, or the keyboard is in it. */
const IN_USE = ".fleet dialog[open], .fleet [aria-haspopup=menu][aria-expanded=true], .fleet :focus-visible";

/** The groups to show. While the pointer is over the table, no row moves: what would, waits until it has left. */
function useStill(all: readonly ContainerView[], filter: string, only: string | undefined, sort: Sort): Group[] {
  const over = useRef(false);
  const [, redraw] = useState(0);
  const before = useRef<{ key: string; groups: Group[] }>({ key: "", groups: [] });
  const at = useComputed(() => Math.floor(now.value / 60) * 60).value;
  const fresh = useMemo(() => grouped(all.filter((agent) => (only === undefined || agent.state === only) && matches(agent, filter, at)), sort), [all, filter, only, sort, at]);
  useEffect(() => {
    const look = (event: PointerEvent): void => {
      if (event.pointerType !== "mouse") return;
      const inside = (event.target as Element | null)?.closest?.(".fleet") != null;
      if (over.current && !inside) redraw((n) => n + 1);
      over.current = inside;
    };
    const left = (): void => {
      if (over.current) redraw((n) => n + 1);
      over.current = false;
    };
    let later = 0;
    const touched = (event: PointerEvent): void => {
      if (event.pointerType === "mouse" || (event.target as Element | null)?.closest?.(".fleet") == null) return;
      clearTimeout(later);
      over.current = true;
      if (event.type !== "pointerdown") later = window.setTimeout(left, FINGER_MS);
    };
    const unfocused = (event: FocusEvent): void => {
      if ((event.target as Element | null)?.closest?.(".fleet") != null) redraw((n) => n + 1);
    };
    document.addEventListener("focusout", unfocused);
    for (const type of FINGER) document.addEventListener(type, touched);
    document.addEventListener("pointerover", look);
    document.documentElement.addEventListener("pointerleave", left);
    return () => {
      clearTimeout(later);
      for (const type of FINGER) document.removeEventListener(type, touched);
      document.removeEventListener("focusout", unfocused);
      document.removeEventListener("pointerover", look);
      document.documentElement.removeEventListener("pointerleave", left);
    };
  }, []);
  const key = `${filter} ${only} ${sort}`;
  const groups = (over.current || document.querySelector(IN_USE) !== null) && before.current.key === key ? held(fresh, before.current.groups) : fresh;
  before.current = { key, groups };
  return groups;
}

/** Which columns are shown: kept in this browser. */
function Columns(): VNode {
  const hidden = settings.hiddenColumns.value;
  const toggle = (id: string): void => void (settings.hiddenColumns.value = hidden.includes(id) ? hidden.filter((each) => each !== id) : [...hidden, id]);
  return <Menu label="Columns" icon="config" items={COLUMNS.map(({ id, label }) => ({ label, checked: !hidden.includes(id), run: () => toggle(id) }))} />;
}

/** How many are in which state; a click shows only those. */
function Counts({ all, only }: { all: readonly ContainerView[]; only: string | undefined }): VNode {
  return (
    <div class="fleet-counts" role="group" aria-label="Show only">
      {GROUP_ORDER.map((state) => {
        const count = all.filter((agent) => agent.state === state).length;
        if (count === 0 && only !== state) return null;
        return (
          <button key={state} type="button" class={`fleet-count tone-${STATES[state].tone}`} aria-pressed={only === state} onClick={() => setQuery({ state: only === state ? undefined : state })}>
            <span class="fleet-count-dot" aria-hidden="true" />
            {count} {state === "needs_you" && count > 1 ? "need you" : STATES[state].word.toLowerCase()}
          </button>
        );
      })}
    </div>
  );
}
