// What the operator wrote to the agent and is not done with, or was a moment ago: how far each message got; what nobody has
// read yet can be taken back.
import { useState } from "preact/hooks";
import { request } from "../../lib/api";
import { useLoad } from "../../lib/load";
import { Link } from "../../lib/router";
import { mail } from "../../lib/store";
import { now } from "../../lib/time";
import { oneLine } from "../../lib/visible";
import { canTakeBack, takeBack } from "../../mail/take-back";
import { Age, Icon, IconButton, type IconName } from "../../ui";

const STATES: Readonly<Record<string, { word: string; icon: IconName; means: string }>> = {
  sending: { word: "sending", icon: "up", means: "On its way to the hive." },
  pending: { word: "queued", icon: "clock", means: "It is durable, and waits for the agent's next turn." },
  in_flight: { word: "delivered", icon: "arrow", means: "A turn has it." },
  acked: { word: "read", icon: "check", means: "The turn that it was part of ended well." },
  held: { word: "held", icon: "pause", means: "It is stored and not handed out; see dead letters and held messages." },
  dead: { word: "dead letter", icon: "dead", means: "It was given up. It can be requeued." },
};

interface Queued {
  id: number;
  from: string;
  body: string;
  at: number;
  state: string;
  turn?: number | undefined;
  note?: string | undefined;
  cut?: boolean | undefined;
}

/** So long a message that was read stays in sight. */
const RECENT = 900;

interface QueueProps {
  name: string;
  /** Another number where something was sent. */
  round: number;
  /** Told the text of a message that was taken back. */
  onTakenBack(body: string): void;
}

export function Queue({ name, round, onTakenBack }: QueueProps) {
  const known = useLoad((stop) => request({ cmd: "flow", agent: name, with: "operator", limit: 20 }, { signal: stop }), [name, round]);
  const rows = new Map<number, Queued>();
  for (const row of known.value?.rows ?? []) if (row.to === name) rows.set(row.id, row);
  for (const row of mail.value) if (row.to === name && row.from === "operator") rows.set(row.id, { ...rows.get(row.id), ...row });
  const sent = [...rows.values()].filter((row) => row.note !== "dropped");
  const open = sent.filter((row) => row.state !== "acked").sort((a, b) => a.id - b.id);
  const read = sent.filter((row) => row.state === "acked" && row.at > now.value - RECENT).sort((a, b) => b.id - a.id)[0];
  const shown = [...(read ? [read] : []), ...open].slice(-5);
  if (shown.length === 0) return null;
  return (
    <ul class="queue" aria-label="Your messages">
      {shown.map((row) => (
        <Item
          key={row.id}
          name={name}
          row={row}
          onTakenBack={() => {
            known.reload(); // of one that is older than this visit no frame is kept
            if (!row.cut) onTakenBack(row.body);
          }}
        />
      ))}
    </ul>
  );
}

function Item({ name, row, onTakenBack }: { name: string; row: Queued; onTakenBack(): void }) {
  const [busy, setBusy] = useState(false);
  const state = STATES[row.state] ?? { word: row.state, icon: "circle" as const, means: "" };
  const remove = (): void => {
    setBusy(true);
    void takeBack(row.id).then((done) => {
      setBusy(false);
      if (done) onTakenBack();
    });
  };
  return (
    <li class={`queue-row state-${row.state}`}>
      <span class="queue-state" title={state.means}>
        <Icon name={state.icon} size={12} />
        {row.state === "acked" && row.turn !== undefined ? (
          <>
            read in <Link href={`/agents/${encodeURIComponent(name)}/t/${row.turn}`}>turn {row.turn}</Link>
          </>
        ) : (
          state.word
        )}
      </span>
      <span class="queue-text">{oneLine(row.body.slice(0, 160))}</span>
      <Age at={row.at} />
      {canTakeBack(row) && <IconButton icon="close" label={`Remove message ${row.id} from the queue`} disabled={busy} onClick={remove} />}
    </li>
  );
}
