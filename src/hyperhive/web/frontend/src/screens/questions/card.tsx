/*
 * A question that can be answered where it stands: on its page, in the list of what waits, on the agent's page.
 *
 * The first answer wins; who comes second is told by whom and when, keeps what they wrote, and may send it as a message.
 */

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type ApiError, asApiError, request } from "../../lib/api";
import { useDraft } from "../../lib/drafts";
import { useActions } from "../../lib/keys";
import type { Question } from "../../lib/protocol";
import { Link, navigate } from "../../lib/router";
import { keptFor, keyIn } from "../../lib/send-key";
import { resolvedQuestions } from "../../lib/store";
import { now } from "../../lib/time";
import { turnPlace } from "../../lib/turn-at";
import { Origin } from "../../mail/Origin";
import { Age, AgentLink, Banner, Button, Chip, ErrorBox, Text, TextArea, Until, toast } from "../../ui";
import { ToolCall } from "./ToolCall";
import { ALLOW_ALWAYS, ALLOW_ONCE, NOTHING, answerOf, choose, kindOf, resolution, toolDenial } from "./model";
import "./questions.css";

const SEEN_MS = 700;

export interface QuestionCardProps {
  question: Question;
  /** Takes the keys 1-9 and Ctrl+Enter, and is set apart in a list. */
  active?: boolean;
  /** The answer field has the focus when the card appears. */
  focus?: boolean;
  /** In a list: leads to its own page. */
  linked?: boolean;
}

export function QuestionCard({ question, active, focus, linked }: QuestionCardProps): JSX.Element {
  const kind = kindOf(question);
  const ended = endOf(question);
  // In a list it is one line, whose place is kept free; all of it comes below the buttons: it must not move them.
  const origin = kind !== "system" && <Origin of={{ question: question.id }} brief={linked ?? false} />;
  return (
    <article class={`question${active ? " active" : ""}${ended ? " ended" : ""}`} aria-label={`Question ${question.id} of ${question.asker}`}>
      <header class="question-head">
        <span>
          {kind === "system" ? <b>The hive</b> : <AgentLink name={question.asker} />}{" "}
          <span class="muted">
            {kind === "tool" ? "wants to use a tool" : "asks"}{question.target === "operator" ? "" : <> <AgentLink name={question.target} /></>} · <Age sentence at={question.asked_at} />
          </span>
        </span>
        <span class="question-chips">
          {!ended && question.expires_at !== undefined ? <Ttl at={question.expires_at} /> : null}
          {kind === "system" ? null : <Context question={question} />}
          {linked ? <Link class="question-link" href={`/questions/${question.id}`}>{`#${question.id}`}</Link> : <span class="muted">{`#${question.id}`}</span>}
        </span>
      </header>
      {kind === "tool" && question.tool ? <ToolCall question={question} tool={question.tool} /> : <p class="question-text"><Text text={question.question} /></p>}
      {question.cut ? <p class="muted">It goes on: <Link href={`/questions/${question.id}`}>read all of it</Link> before you answer.</p> : null}
      {linked && origin}
      {ended ? <Ended ended={ended} question={question} /> : kind === "tool" ? <ToolAnswer question={question} active={active} focus={focus} /> : <Answer question={question} active={active} focus={focus} />}
      {!linked && origin}
    </article>
  );
}

interface End {
  readonly answer: string;
  readonly answerer: string;
  /** By what way the operator did it. */
  readonly channel?: string;
  readonly at: number;
}

/** How it ended, by the hive's stream or by its own row; also by the clock, before the hive has said so. */
function endOf(question: Question): End | undefined {
  const told = resolvedQuestions.value.get(question.id);
  if (told) return told;
  if (question.answered_at !== undefined) return { answer: question.answer ?? "", answerer: question.answerer ?? "", at: question.answered_at, ...(question.channel && { channel: question.channel }) };
  if (question.expires_at !== undefined && question.expires_at <= now.value) return { answer: "[expired]", answerer: "ttl-watchdog", at: question.expires_at };
  return undefined;
}

function Ttl({ at }: { at: number }): JSX.Element {
  const left = at - now.value;
  return <Chip tone={left < 300 ? "failed" : left < 3600 ? "needs" : "muted"} icon="clock" title="It expires without an answer"><Until at={at} prefix="expires in" /></Chip>;
}

/** To the turn that asks; found when it is wanted, so that a list of questions asks for nothing. */
function Context({ question }: { question: Question }): JSX.Element {
  const page = `/agents/${encodeURIComponent(question.asker)}`;
  return (
    <Link
      href={page}
      onClick={(event: MouseEvent) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        void turnPlace(question.asker, question.asked_at).then(navigate);
      }}
    >
      in context
    </Link>
  );
}

function Ended({ ended, question }: { ended: End; question: Question }): JSX.Element {
  const { word, by } = resolution(ended.answer, ended.answerer);
  const [draft, clear] = useDraft(`question.${question.id}`);
  return (
    <>
      <Banner tone={word === "answered" ? "ok" : "muted"} icon={word === "answered" ? "check" : "clock"}>
        {word === "expired" ? "Expired without an answer" : word === "cancelled" ? <>Withdrawn by <Text text={by} /></> : <>Answered by <Text text={by} />{ended.channel ? ` (${ended.channel})` : ""}</>}, <Age sentence at={ended.at} />
        {word === "answered" ? <blockquote><Text text={ended.answer} /></blockquote> : "."}
      </Banner>
      {draft.value.trim() && kindOf(question) !== "system" && kindOf(question) !== "tool" && draft.value.trim() !== ended.answer ? (
        <AsMessage question={question} text={draft.value} done={clear} />
      ) : null}
    </>
  );
}

/** What was written too late can still reach the asker. */
function AsMessage({ question, text, done }: { question: Question; text: string; done: () => void }): JSX.Element {
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const kept = useRef("");
  const send = async (): Promise<void> => {
    setBusy(true);
    const body = `About your question ${question.id} (“${question.question.slice(0, 200)}”): ${text.trim()}`;
    try {
      kept.current = keptFor(kept.current, question.asker, body);
      await request({ cmd: "send", to: question.asker, body, dedupe_key: keyIn(kept.current) });
      done();
      toast(`Sent to ${question.asker}`);
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="question-late">
      <span class="muted">Your answer was not taken:</span> <Text text={text} />
      <Button small icon="send" busy={busy} onClick={send}>{`Send it to ${question.asker} as a message`}</Button>
      {error ? <ErrorBox error={error} /> : null}
    </div>
  );
}

/** Sends an answer; a refusal says who was first. */
function useAnswer(question: Question): { busy: boolean; error?: ApiError; send: (answer: string, then?: () => void) => Promise<void> } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const sending = useRef(false); // keys may call a `send` of an earlier drawing
  const send = async (answer: string, then?: () => void): Promise<void> => {
    if (sending.current || !answer) return;
    sending.current = true;
    setBusy(true);
    setError(undefined);
    try {
      await request({ cmd: "answer", id: question.id, answer });
      then?.();
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      sending.current = false;
      setBusy(false);
    }
  };
  return { busy, send, ...(error ? { error } : {}) };
}

interface AnswerProps {
  question: Question;
  active?: boolean | undefined;
  focus?: boolean | undefined;
}

function Answer({ question, active, focus }: AnswerProps): JSX.Element {
  const [other, clear] = useDraft(`question.${question.id}`);
  const [chosen, setChosen] = useState(NOTHING.chosen);
  const { busy, error, send } = useAnswer(question);
  const form = useRef<HTMLFormElement>(null);
  const closed = kindOf(question) === "system";
  const draft = { chosen, other: closed ? "" : other.value };
  const answer = answerOf(question, draft);
  const submit = (): void => void send(answer, () => {
    clear();
    toast(`Answered ${question.asker === "system" ? "the hive" : question.asker}`);
  });
  const pick = (option: string): void => setChosen(choose(draft, option, question.multi).chosen);
  useLayoutEffect(() => {
    if (focus) form.current?.querySelector<HTMLElement>(question.options.length > 0 ? "input" : "textarea")?.focus();
  }, [focus, question.id]);
  useActions(
    active
      ? [
          ...question.options.slice(0, 9).map((option, index) => ({
            id: `question.option.${index + 1}`, title: `Choose “${option.slice(0, 60)}”`, section: "Question", keys: String(index + 1), hidden: true, run: () => pick(option),
          })),
          { id: "question.send", title: "Send the answer", section: "Question", keys: "mod+enter", run: submit, when: () => answer !== "" },
        ]
      : [],
    [active, answer, question.id, chosen],
  );
  return (
    <form
      ref={form}
      class="question-answer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => sendByKeys(event, submit)}
    >
      {question.options.length > 0 ? (
        <fieldset>
          <legend class="muted">{question.multi ? "Any of these" : "One of these"}</legend>
          {question.options.map((option, index) => (
            <label key={option} class={`question-option${chosen.includes(option) ? " chosen" : ""}`}>
              <input type={question.multi ? "checkbox" : "radio"} name={`question-${question.id}`} checked={chosen.includes(option)} onChange={() => pick(option)} />
              <span><Text text={option} /></span>
              {index < 9 ? <kbd aria-hidden="true">{index + 1}</kbd> : null}
            </label>
          ))}
        </fieldset>
      ) : null}
      {closed ? null : (
        <TextArea value={other} onSubmit={submit} rows={question.options.length > 0 ? 1 : 3} aria-label={question.options.length > 0 ? "Other: in your own words" : "Your answer"} placeholder={question.options.length > 0 ? "Other: in your own words" : "Your answer"} />
      )}
      {error ? <ErrorBox error={error} /> : null}
      <span class="question-do">
        <Button type="submit" kind="primary" icon="send" keys="mod+enter" busy={busy} disabled={!answer}>Answer</Button>
        <Cancel question={question} />
      </span>
    </form>
  );
}

function ToolAnswer({ question, active, focus }: AnswerProps): JSX.Element {
  const [reason, clear] = useDraft(`question.${question.id}`);
  const { busy, error, send } = useAnswer(question);
  const root = useRef<HTMLDivElement>(null);
  const give = (answer: string, said: string) => (): void => void send(answer, () => {
    clear();
    toast(`${said} for ${question.asker}`);
  });
  const once = give(ALLOW_ONCE, "Allowed once");
  const always = give(ALLOW_ALWAYS, "Allowed from now on");
  const since = useRef(Infinity);
  useEffect(() => void (since.current = active ? performance.now() : Infinity), [active, question.id]);
  /** By key only what has been before one's eyes: a press meant for the call that was here before allows nothing. */
  const seen = (run: () => void) => (): void => void (performance.now() - since.current > SEEN_MS && run());
  const deny = (): void => give(toolDenial(reason.value), "Denied")();
  useLayoutEffect(() => {
    if (focus) root.current?.querySelector<HTMLElement>("button")?.focus();
  }, [focus, question.id]);
  useActions(
    active
      ? [
          { id: "tool.once", title: "Allow this call once", section: "Question", keys: "1", run: seen(once) },
          { id: "tool.always", title: "Allow it always", section: "Question", keys: "2", run: seen(always) },
          { id: "tool.deny", title: "Deny it", section: "Question", keys: "3", run: () => root.current?.querySelector<HTMLElement>("textarea")?.focus() },
        ]
      : [],
    [active, question.id],
  );
  return (
    <div ref={root} class="question-answer" onKeyDown={(event) => sendByKeys(event, deny)}>
      <TextArea value={reason} rows={1} onSubmit={deny} aria-label="Why not: told to the agent with a denial" placeholder="Why not? Told to the agent with a denial" />
      {error ? <ErrorBox error={error} /> : null}
      <span class="question-do">
        <Button kind="primary" icon="check" keys="1" busy={busy} onClick={once}>Allow once</Button>
        <Button icon="check" keys="2" disabled={busy} onClick={always}>Allow always</Button>
        <Button kind="danger" icon="x" keys="3" disabled={busy} onClick={deny}>{reason.value.trim() ? "Deny with this reason" : "Deny"}</Button>
      </span>
    </div>
  );
}

/** Withdraws a question that should not have been asked. The asker is told. */
function Cancel({ question }: { question: Question }): ComponentChildren {
  const [busy, setBusy] = useState(false);
  if (question.asker === "system") return null;
  return (
    <Button
      kind="ghost"
      busy={busy}
      title="Withdraw the question; whoever asked is told"
      onClick={() => {
        setBusy(true);
        request({ cmd: "cancel_question", id: question.id }).catch((error: unknown) => toast(asApiError(error).detail, { tone: "failed" })).finally(() => setBusy(false));
      }}
    >
      Withdraw
    </Button>
  );
}

/** Ctrl+Enter anywhere in the card; a text area does so itself. */
function sendByKeys(event: KeyboardEvent, send: () => void): void {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.defaultPrevented) return;
  event.preventDefault();
  event.stopPropagation();
  send();
}
