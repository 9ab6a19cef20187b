// One agent's row: state, name, what it does, chips, and what can be done to it. A failed action is explained right here.
import { useComputed, type Signal } from "@preact/signals";
import { memo } from "./memo";
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { plural } from "../../lib/format";
import type { ContainerView } from "../../lib/protocol";
import { Link, navigate, setQuery } from "../../lib/router";
import { act, container, forgive, needsYou, rowErrors, transients } from "../../lib/store";
import { settings } from "../../lib/settings";
import { now } from "../../lib/time";
import { Age, Chip, ConfirmDialog, Icon, IconButton, Loading, Menu, Sentence, StateBadge, type MenuItem } from "../../ui";
import { DestroyDialog } from "./dialogs";
import { chipsOf, doing, ROW_ACTIONS, type RowAction } from "./model";
import "./peek.css";

interface RowProps {
  agent: ContainerView;
  filter: string;
  selected: Signal<ReadonlySet<string>>;
  current: Signal<string | undefined>;
  /** Whose row is open for a look. */
  peeked: Signal<string | undefined>;
  onSelect(name: string): void;
}

/** Chips that hardly ever change: a phone's row has no room for them. */
const LASTING = /^(network|isolation|sha):/;

function PlainRow({ agent, filter, selected, current, peeked, onSelect }: RowProps): VNode {
  const { name } = agent;
  const [asking, setAsking] = useState<RowAction | "destroy">();
  // By signals of its own: what is done to another agent draws no row but that one's.
  const error = useComputed(() => rowErrors.value.get(name)).value;
  const transient = useComputed(() => transients.value.get(name)).value ?? agent.transient;
  const here = useComputed(() => current.value === name).value;
  const open = useComputed(() => peeked.value === name).value;
  const chosen = useComputed(() => selected.value.has(name)).value;
  const does = useComputed(() => doing(container(name).value ?? agent, needsYou.value.filter((each) => each.agent === name))).value;
  const hidden = settings.hiddenColumns.value;
  const busy = transient !== undefined;
  const url = `/agents/${encodeURIComponent(name)}`;
  const start = (action: RowAction): void => {
    if (action.asks?.(agent)) setAsking(action);
    else void act(name, action.request(name), action.transient);
  };
  const items: MenuItem[] = [
    { label: "Open", icon: "arrow", run: () => navigate(url) },
    { label: open ? "Close the peek" : "Peek", icon: "eye", run: () => (peeked.value = open ? undefined : name) },
    { label: "Stats", icon: "chart", run: () => navigate(`${url}/stats`) },
    { label: "Config", icon: "config", run: () => navigate(`/config/${name}`) },
    { label: "Logs", icon: "logs", run: () => navigate(`/logs/${name}`) },
    ...ROW_ACTIONS.filter((action) => action.fits(agent)).map(
      (action, i): MenuItem => ({ label: action.label, icon: action.icon, disabled: busy, separate: i === 0, ...(action.hint && { hint: action.hint }), run: () => start(action) }),
    ),
    ...(agent.role === "manager" ? [] : [{ label: "Destroy…", icon: "trash", danger: true, separate: true, disabled: busy, run: () => setAsking("destroy") } satisfies MenuItem]),
  ];
  const quick = ROW_ACTIONS.find((action) => action.id === (agent.running ? "stop" : "start"))!;
  return (
    <div id={`agent-${name}`} role="row" class={`fleet-row${busy ? " busy" : ""}`} aria-current={here || undefined} onClick={(event) => !(event.target as Element).closest("a,button,input,label,[role=menu],dialog,.c-peek") && navigate(url)}>
      <span role="cell" class="c-select">
        <label class="check">
          <input type="checkbox" aria-label={`Select ${name}`} checked={chosen} onChange={() => onSelect(name)} />
        </label>
      </span>
      <span role="cell" class="c-state">
        <StateBadge state={agent.state} transient={transient} />
      </span>
      <span role="rowheader" class="c-name">
        <Link class="agent-name truncate" href={url}>
          {name}
        </Link>
        {agent.role === "manager" && name !== "manager" && (
          <Chip title="The one agent that may propose, start and stop others" tone="accent">
            manager
          </Chip>
        )}
      </span>
      <span role="cell" class="c-doing">
        <span class="truncate" title={does}>
          {does}
        </span>
        {agent.turn_state_since > 0 && <Age at={agent.turn_state_since} />}
      </span>
      <span role="cell" class="c-unread num">
        {agent.unread > 0 && (
          <span title={plural(agent.unread, "message waits", "messages wait")}>
            <Icon name="message" size={12} /> {agent.unread}
            <span class="sr"> waiting</span>
          </span>
        )}
      </span>
      <span role="cell" class="c-model truncate" title={`Model ${agent.model}, account ${agent.account}`}>
        {agent.model}
      </span>
      <span role="cell" class="c-chips">
        {chipsOf(agent, now.peek()).filter((chip) => !hidden.includes(chip.filter.split(":", 1)[0]!)).map((chip) => {
          const on = filter.split(/\s+/).includes(chip.filter);
          return (
            <Chip key={chip.filter} icon={chip.icon} tone={chip.tone} title={`${chip.title}. Click to filter.`} on={on} mono={chip.mono ?? false} class={LASTING.test(chip.filter) ? "lasting" : ""} onClick={() => setQuery({ q: on ? filter.replace(chip.filter, "").trim() : `${filter} ${chip.filter}`.trim() }, { push: true })}>
              {chip.text}
            </Chip>
          );
        })}
      </span>
      <span role="cell" class="c-actions">
        <IconButton icon={quick.icon} label={`${quick.label} ${name}`} disabled={busy} onClick={() => start(quick)} />
        <Menu label={`Actions on ${name}`} items={items} />
      </span>
      {error && (
        <span role="cell" class="c-error" aria-live="polite">
          <Icon name="alert" size={14} />
          <span>
            <Sentence text={error.detail} />{" "}
            {error.hint && (
              <span class="muted">
                <Sentence text={error.hint} />
              </span>
            )}
          </span>
          <IconButton icon="close" label={`Dismiss the failure of ${name}`} onClick={() => forgive(name)} />
        </span>
      )}
      {open && (
        <span role="cell" class="c-peek">
          <LazyPeek agent={agent} />
        </span>
      )}
      {asking === "destroy" ? (
        <DestroyDialog name={name} onClose={() => setAsking(undefined)} />
      ) : (
        asking && (
          <ConfirmDialog title={`${asking.label} ${name}?`} confirm={asking.label} onConfirm={() => void act(name, asking.request(name), asking.transient)} onClose={() => setAsking(undefined)}>
            <p>A turn is under way. It is allowed to end first; its messages are not lost.</p>
          </ConfirmDialog>
        )
      )}
    </div>
  );
}

/** The look itself, fetched when somebody first takes one. */
function LazyPeek({ agent }: { agent: ContainerView }): VNode {
  const [Shown, setShown] = useState<(props: { agent: ContainerView }) => VNode>();
  useEffect(() => void import("./peek").then(({ Peek }) => setShown(() => Peek), () => undefined), []);
  return Shown ? <Shown agent={agent} /> : <Loading lines={3} />;
}

/** Drawn again when its own agent changed, not when another did. */
export const Row = memo(PlainRow, (a, b) => a.agent === b.agent && a.filter === b.filter);
