// Beside the terminal: what of the agent's waits for an answer, and its mail.
import { useEffect, useState } from "preact/hooks";
import { asApiError, get, request } from "../../lib/api";
import { shortSha } from "../../lib/format";
import { useLoad } from "../../lib/load";
import type { LooseEnd } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { approvals, mail, onFrame, questions, reminders } from "../../lib/store";
import { hiveWords, summary } from "../../mail/words";
import { Age, AgentLink, Button, Empty, ErrorBox, Icon, Loading, Section, Text, Until, toast } from "../../ui";
import { Prose } from "./blocks";
import { QuestionCard } from "../questions/card";

export function LooseEnds({ name }: { name: string }) {
  const asked = questions.value.filter((each) => each.asker === name && each.target === "operator");
  const proposed = approvals.value.filter((each) => each.agent === name && each.status === "pending");
  const mine = new Set(asked.map((each) => each.id));
  const [round, setRound] = useState(0);
  useEffect(() => onFrame((frame) => /^(question|approval|reminders)_/.test(frame.kind) && setRound((before) => before + 1)), []);
  const loaded = useLoad((stop) => get<{ loose_ends: LooseEnd[] }>(`/agents/${encodeURIComponent(name)}/api/loose-ends`, stop), [name, round, reminders.value]);
  const ends = loaded.value?.loose_ends ?? [];
  const between = ends.filter((end) => end.kind === "question" && !mine.has(end.id));
  const reminding = ends.filter((end) => end.kind === "reminder");
  const count = asked.length + proposed.length + between.length + reminding.length;
  if (count === 0) return null;
  return (
    <Section title="Loose ends" count={count}>
      <div class="ends">
        {asked.map((question) => (
          <QuestionCard key={question.id} question={question} linked />
        ))}
        {proposed.map((approval) => (
          <Link key={approval.id} class="end end-approval" href={`/approvals/${approval.id}`}>
            <Icon name="approvals" />
            <span>
              {approval.kind === "spawn" ? "A new agent is asked for" : <>A change of its config, <span class="mono">{shortSha(approval.commit_ref)}</span></>}
            </span>
            <Age at={approval.requested_at} />
          </Link>
        ))}
        {between.map((end) =>
          end.kind === "question" ? (
            <Link key={`q${end.id}`} class="end" href={`/questions/${end.id}`}>
              <Icon name="question" />
              <span>
                {end.asker} asks {end.target}: <Text text={end.question} line />
              </span>
            </Link>
          ) : null,
        )}
        {reminding.map((end) => (end.kind === "reminder" ? <ReminderEnd key={`r${end.id}`} end={end} changed={loaded.reload} /> : null))}
      </div>
    </Section>
  );
}

function ReminderEnd({ end, changed }: { end: Extract<LooseEnd, { kind: "reminder" }>; changed: () => void }) {
  const [busy, setBusy] = useState(false);
  const cancel = (): void => {
    setBusy(true);
    request({ cmd: "cancel_loose_end", kind: "reminder", id: end.id })
      .then(
        () => (toast("The reminder is cancelled"), changed()),
        (error: unknown) => toast(asApiError(error).detail, { tone: "failed" }),
      )
      .finally(() => setBusy(false));
  };
  return (
    <div class="end">
      <Icon name="reminder" />
      <span>
        <Text text={end.message} line /> <span class="muted">· <Until at={end.due_at} /></span>
        {end.failure && <span class="end-failure"> · failed: <Text text={end.failure} line /></span>}
      </span>
      <Button small busy={busy} onClick={cancel}>
        Cancel
      </Button>
    </div>
  );
}

const INBOX = 30;

/** The newest messages to the agent, newest first, live. */
export function InboxPanel({ name }: { name: string }) {
  const known = useLoad((stop) => request({ cmd: "flow", agent: name, limit: 100 }, { signal: stop }), [name]);
  const rows = new Map((known.value?.rows ?? []).filter((row) => row.to === name).map((row) => [row.id, row as { id: number; from: string; body: string; at: number; state: string; turn?: number | undefined }]));
  for (const row of mail.value) if (row.to === name) rows.set(row.id, { ...rows.get(row.id), ...row });
  const shown = [...rows.values()].sort((a, b) => b.id - a.id).slice(0, INBOX);
  const [open, setOpen] = useState<number>();
  return (
    <Section title="Inbox" count={shown.filter((row) => row.state === "pending").length} actions={<Link class="more" href={`/messages?agent=${encodeURIComponent(name)}`}>all messages</Link>}>
      {known.error && <ErrorBox error={known.error} retry={known.reload} />}
      {shown.length === 0 ? (
        known.loading ? <Loading lines={3} /> : <Empty title="No mail yet" icon="inbox" />
      ) : (
        <ul class="mailbox">
          {shown.map((row) => (
            <li key={row.id} class={`mail-row state-${row.state}`}>
              <button type="button" class="mail-title" aria-expanded={open === row.id} onClick={() => setOpen(open === row.id ? undefined : row.id)}>
                <span class="mail-from">{row.from}</span>
                <span class="mail-gist">{summary(row.from, row.body, 120)}</span>
                <span class="mail-state">{row.state === "acked" ? <Icon name="check" size={12} /> : row.state.replace("_", " ")}</span>
                <Age at={row.at} />
              </button>
              {open === row.id && (
                <div class="mail-body">
                  <div class="muted">
                    from <AgentLink name={row.from} /> · {row.state.replace("_", " ")}
                    {row.turn !== undefined && <> · <Link href={`/agents/${encodeURIComponent(name)}/t/${row.turn}`}>turn {row.turn}</Link></>}
                  </div>
                  <Prose text={(row.from === "system" && hiveWords(row.body)?.text) || row.body} />
                </div>
              )}
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
