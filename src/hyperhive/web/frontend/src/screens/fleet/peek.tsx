// A look into one agent from the fleet: what it waits for, and what it did last. Follows the agent while it is open.
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import { request } from "../../lib/api";
import { clock } from "../../lib/format";
import { useLoad } from "../../lib/load";
import { briefly } from "../../lib/needs";
import { words } from "../../lib/notifications";
import type { ContainerView } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { needsYou } from "../../lib/store";
import { now } from "../../lib/time";
import { oneLine } from "../../lib/visible";
import { ErrorBox, Icon, Loading } from "../../ui";
import { lineOf, RowModel, type Frame, type Row } from "../../rows";

const EVENTS = 60;
const LINES = 6;
/** Of an agent in a turn, asked again after so many seconds. */
const EVERY = 3;

const SAID: Readonly<Partial<Record<Row["type"], string>>> = { text: "says", thinking: "thinks", turn_start: "reads", turn_end: "ended", note: "note" };

export function Peek({ agent }: { agent: ContainerView }): VNode {
  const { name } = agent;
  const beat = agent.turn_state === "idle" ? 0 : Math.floor(now.value / EVERY);
  const loaded = useLoad(
    (stop) => request({ cmd: "events", name, limit: EVENTS }, { signal: stop }).then((page) => page.events as unknown as Frame[]),
    [name, agent.turn_state, agent.turn_state_since, beat],
  );
  const rows = useMemo(() => lastOf(loaded.value ?? []), [loaded.value]);
  const waits = needsYou.value.filter((each) => each.agent === name);
  const page = `/agents/${encodeURIComponent(name)}`;
  return (
    <div class="peek">
      {waits.map((item) => (
        <p key={item.key} class="peek-waits">
          <Icon name="alert" size={14} /> <Link href={words(item).url}>{briefly(item)}</Link>
        </p>
      ))}
      {loaded.error && !loaded.value ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : !loaded.value ? <Loading lines={3} /> : rows.length === 0 ? <p class="muted">It has done nothing yet.</p> : null}
      {rows.length > 0 && (
        <ol class="peek-rows" aria-label={`What ${name} did last`}>
          {rows.map((row) => (
            <li key={row.key} class={row.error ? "bad" : ""}>
              <span class="muted">{row.at === undefined ? "" : clock(row.at)}</span>
              <span class="muted">{SAID[row.type] ?? ""}</span>
              <span class="peek-line">{oneLine(lineOf(row).slice(0, 300))}</span>
            </li>
          ))}
        </ol>
      )}
      <p class="peek-links">
        <Link href={page}>Open {name}</Link> <Link href={`${page}/turns`}>its turns</Link>
      </p>
    </div>
  );
}

/** The newest rows that say something, oldest first. */
function lastOf(events: readonly Frame[]): readonly Row[] {
  const model = new RowModel({ gaps: false });
  model.add(events);
  const rows = model.groups().flatMap((group) => group.rows);
  return rows.filter((row) => row.type !== "system" && row.type !== "unknown" && row.type !== "input" && lineOf(row).trim() !== "").slice(-LINES);
}
