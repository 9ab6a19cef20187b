// Writing to the agent: text or a /command, what was written surviving a reload, and what waits to be read shown with how
// far it got. A message is never sent twice: each draft has a key of its own, which a second try repeats.
import { signal } from "@preact/signals";
import { useMemo, useRef, useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { useDraft } from "../../lib/drafts";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import { Link } from "../../lib/router";
import { keptFor, keyIn } from "../../lib/send-key";
import { agentNames, mail, snapshots } from "../../lib/store";
import { now } from "../../lib/time";
import { oneLine } from "../../lib/visible";
import { Age, Button, ErrorBox, Icon, TextArea, toast, type IconName } from "../../ui";
import { COMMANDS, parseInput } from "./commands";

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
  body: string;
  at: number;
  state: string;
  turn?: number | undefined;
}

/** So long a message that was read stays in sight. */
const RECENT = 900;

export function Composer({ name, busy, model }: { name: string; busy: boolean; model: string }) {
  const [text, clear] = useDraft(`send:${name}`);
  const [kept, clearKey] = useDraft(`send:${name}.key`);
  const [sending, setSending] = useState(false);
  const [error, setError] = useState<ApiError>();
  const [fault, setFault] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  const sent = useMemo(() => signal(0), [name]);
  const commands = useMemo(() => COMMANDS.map((each) => ({ name: each.name, hint: each.about })), []);
  useActions([{ id: "agent.write", title: `Write to ${name}`, section: name, keys: "r", run: () => area.current?.focus() }], [name]);

  const submit = (): void => {
    if (sending) return;
    const parsed = parseInput(text.value);
    setFault(parsed.kind === "fault" ? parsed.says : "");
    setError(undefined);
    if (parsed.kind === "fault" || (parsed.kind === "text" && parsed.text === "")) return;
    setSending(true);
    if (parsed.kind === "text") kept.value = keptFor(kept.value, name, parsed.text);
    const done = parsed.kind === "command" ? run(name, parsed.name, parsed.argument) : request({ cmd: "send", to: name, body: parsed.text, dedupe_key: keyIn(kept.value) });
    done
      .then(
        (reply) => {
          clear();
          clearKey();
          sent.value++;
          if (parsed.kind === "command") toast(`/${parsed.name}: done${"note" in reply && reply.note ? `; ${reply.note}` : ""}`);
        },
        (failed: unknown) => setError(asApiError(failed)),
      )
      .finally(() => {
        setSending(false);
        area.current?.focus();
      });
  };

  return (
    <div class="composer">
      <Queue name={name} round={sent.value} />
      {error && <ErrorBox error={error} title="Not sent." retry={submit} />}
      <form
        class="composer-form"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <TextArea
          value={text}
          names={agentNames.value}
          commands={commands}
          onSubmit={submit}
          enterSends
          areaRef={area}
          rows={1}
          aria-label={`Message to ${name}`}
          aria-invalid={fault !== "" || undefined}
          placeholder={busy ? `${name} is in a turn; this waits for the next one` : `Write to ${name}, or / for commands`}
        />
        <Button kind="primary" icon="send" type="submit" busy={sending} aria-label="Send">
          Send
        </Button>
      </form>
      {fault ? (
        <p class="field-error" role="alert">
          {fault}
        </p>
      ) : (
        <p class="composer-hint">
          Enter sends, Shift+Enter is a new line{model && <span> · model {oneLine(model)}</span>}
        </p>
      )}
    </div>
  );
}

function run(name: string, command: string, argument: string): Promise<{ note?: string }> {
  switch (command) {
    case "model":
      return request({ cmd: "model", name, model: argument });
    case "compact":
      return request({ cmd: "compact", name });
    case "cancel":
      return request({ cmd: "cancel", name });
    default:
      return request({ cmd: "new_session", name });
  }
}

/** The operator's last messages to the agent that are not done with, or were a moment ago. */
function Queue({ name, round }: { name: string; round: number }) {
  const known = useLoad((stop) => request({ cmd: "flow", agent: name, with: "operator", limit: 20 }, { signal: stop }), [name, round, snapshots.value]);
  const rows = new Map<number, Queued>();
  for (const row of known.value?.rows ?? []) if (row.to === name) rows.set(row.id, row);
  for (const row of mail.value) if (row.to === name && row.from === "operator") rows.set(row.id, { ...rows.get(row.id), ...row });
  const open = [...rows.values()].filter((row) => row.state !== "acked").sort((a, b) => a.id - b.id);
  const read = [...rows.values()].filter((row) => row.state === "acked" && row.at > now.value - RECENT).sort((a, b) => b.id - a.id)[0];
  const shown = [...(read ? [read] : []), ...open].slice(-5);
  if (shown.length === 0) return null;
  return (
    <ul class="queue" aria-label="Your messages">
      {shown.map((row) => {
        const state = STATES[row.state] ?? { word: row.state, icon: "circle" as const, means: "" };
        return (
          <li key={row.id} class={`queue-row state-${row.state}`}>
            <span class="queue-state" title={state.means}>
              <Icon name={state.icon} size={12} />
              {row.state === "acked" && row.turn !== undefined ? (
                <>
                  read in{" "}
                  <Link href={`/agents/${encodeURIComponent(name)}/t/${row.turn}`}>turn {row.turn}</Link>
                </>
              ) : (
                state.word
              )}
            </span>
            <span class="queue-text">{oneLine(row.body.slice(0, 160))}</span>
            <Age at={row.at} />
          </li>
        );
      })}
    </ul>
  );
}
