// Writing to the agent: text or a /command, what was written surviving a reload. A message is never sent twice: each draft
// has a key of its own, which a second try repeats. What became of it is `queue.tsx`.
import { signal } from "@preact/signals";
import { useMemo, useRef, useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { useDraft } from "../../lib/drafts";
import { useActions } from "../../lib/keys";
import { keptFor, keyIn } from "../../lib/send-key";
import { agentNames } from "../../lib/store";
import { oneLine } from "../../lib/visible";
import { Button, ErrorBox, TextArea, toast } from "../../ui";
import { COMMANDS, parseInput } from "./commands";
import { Queue } from "./queue";

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
    const written = text.value;
    const parsed = parseInput(written);
    setFault(parsed.kind === "fault" ? parsed.says : "");
    setError(undefined);
    if (parsed.kind === "fault" || (parsed.kind === "text" && parsed.text === "")) return;
    setSending(true);
    if (parsed.kind === "text") kept.value = keptFor(kept.value, name, parsed.text);
    const done = parsed.kind === "command" ? run(name, parsed.name, parsed.argument) : request({ cmd: "send", to: name, body: parsed.text, dedupe_key: keyIn(kept.value) });
    done
      .then(
        (reply) => {
          if (text.peek() === written) clear(); // what was written meanwhile stays
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

  /** What was taken back may be meant otherwise: it is there to be mended, where nothing else is being written. */
  const takenBack = (body: string): void => {
    if (text.peek().trim() === "") text.value = body;
    const at = document.activeElement; // whoever has gone on to something else stays there
    if (at === document.body || area.current?.closest(".composer")?.contains(at)) area.current?.focus();
  };

  return (
    <div class="composer">
      <Queue name={name} round={sent.value} onTakenBack={takenBack} />
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
