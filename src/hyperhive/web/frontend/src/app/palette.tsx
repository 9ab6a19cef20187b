// Ctrl/Cmd-K: every action, agent and screen by a few letters; what was used last comes first. And `?`: the same registry
// as a list of keys.
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { rank } from "../lib/fuzzy";
import { actions, invoke, type Action } from "../lib/keys";
import { navigate } from "../lib/router";
import { settings } from "../lib/settings";
import { agentNames } from "../lib/store";
import { Dialog, Kbd, Switch } from "../ui";

const open = signal(false);
const help = signal(false);

/** What was typed after the palette was asked for and before it was drawn: its query's beginning, no keys of the page. */
let early = "";

function catchEarly(event: KeyboardEvent): void {
  if (event.key.length !== 1 || event.ctrlKey || event.metaKey || event.altKey) return;
  early += event.key;
  event.preventDefault();
  event.stopImmediatePropagation();
}

export function openPalette(): void {
  if (open.peek()) return;
  early = "";
  addEventListener("keydown", catchEarly, true);
  open.value = true;
}
export const openHelp = (): void => void (help.value = true);

const SHOWN_MAX = 40;

/** What may be chosen for this text, best first. */
function choices(query: string): Action[] {
  const agents = agentNames.value.map((name): Action => ({ id: `agent:${name}`, title: name, section: "Agent", run: () => navigate(`/agents/${name}`) }));
  const able = actions.value.filter((action) => !action.hidden && (action.when?.() ?? true));
  if (query.trim() === "") {
    const recent = settings.recentActions.value.flatMap((id) => able.find((action) => action.id === id) ?? agents.find((each) => each.id === id) ?? []);
    return [...recent, ...able.filter((action) => !recent.includes(action)), ...agents.filter((each) => !recent.includes(each))].slice(0, SHOWN_MAX);
  }
  const found = rank(query, [...able, ...agents], (each) => `${each.title} ${each.words ?? ""}`).slice(0, SHOWN_MAX);
  const search: Action = { id: "search:text", title: `Search messages and tool calls for “${query.trim()}”`, section: "Search", hidden: true, run: () => navigate(`/search?q=${encodeURIComponent(query.trim())}`) };
  return [...found, search];
}

function Palette(): VNode {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const list = useId();
  const shown = useMemo(() => choices(query), [query]);
  const listRef = useRef<HTMLUListElement>(null);
  useEffect(() => setAt(0), [query]);
  useEffect(() => {
    // The dialog is shown by now: from here on its field has the keys.
    setQuery(early);
    const caught = (): void => removeEventListener("keydown", catchEarly, true);
    caught();
    return caught;
  }, []);
  useEffect(() => listRef.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [at]);
  const choose = (action: Action | undefined): void => {
    if (!action) return;
    open.value = false;
    // After the dialog gave the focus back, so that an action may take it.
    setTimeout(() => invoke(action));
  };
  return (
    <Dialog title="Commands" onClose={() => void (open.value = false)}>
      <div class="palette">
        <input
          class="palette-input"
          placeholder="Agents, actions, search…"
          aria-label="Search commands and agents"
          role="combobox"
          aria-expanded="true"
          aria-controls={list}
          aria-activedescendant={`${list}-${at}`}
          autocomplete="off"
          spellcheck={false}
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
          onKeyDown={(event) => {
            const step = event.key === "ArrowDown" || (event.ctrlKey && event.key === "n") ? 1 : event.key === "ArrowUp" || (event.ctrlKey && event.key === "p") ? -1 : 0;
            if (step !== 0) setAt((at + step + shown.length) % shown.length);
            else if (event.key === "Enter" && !event.isComposing) choose(shown[at]);
            else return;
            event.preventDefault();
          }}
        />
        <ul class="palette-list" id={list} ref={listRef} role="listbox" aria-label="Commands">
          {shown.map((action, i) => (
            <li key={action.id} id={`${list}-${i}`} role="option" aria-selected={i === at} onPointerMove={() => setAt(i)} onClick={() => choose(action)}>
              <span class="palette-section">{action.section ?? "Action"}</span>
              <span class="palette-title">{action.title}</span>
              {action.keys && <Kbd keys={action.keys} />}
            </li>
          ))}
        </ul>
      </div>
    </Dialog>
  );
}

function Help(): VNode {
  const bySection = new Map<string, Action[]>();
  for (const action of actions.value) if (action.keys) bySection.set(action.section ?? "Everywhere", [...(bySection.get(action.section ?? "Everywhere") ?? []), action]);
  return (
    <Dialog title="Keys" onClose={() => void (help.value = false)} wide>
      <Switch checked={settings.singleKeys.value} label="Keys without Ctrl or Cmd" hint="Turn off where speech input or an assistive tool types them by mistake." onChange={(on) => (settings.singleKeys.value = on)} />
      <div class="help-grid">
        {[...bySection].map(([section, list]) => (
          <section key={section}>
            <h3>{section}</h3>
            <dl>
              {[...new Set(list.map((action) => action.title))].map((title) => (
                <div key={title}>
                  <dt>{title}</dt>
                  <dd>
                    {list
                      .filter((action) => action.title === title)
                      .map((action) => (
                        <span key={action.id} class="help-key">
                          <Kbd keys={action.keys!} />
                          <span class="sr">{action.keys}</span>
                        </span>
                      ))}
                  </dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

/** Both dialogs, where they are open. */
export function Overlays(): VNode {
  return (
    <>
      {open.value && <Palette />}
      {help.value && <Help />}
    </>
  );
}
