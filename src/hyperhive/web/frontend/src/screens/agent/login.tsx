// Logging an agent in: open the page, bring back the code. Made for a phone as well: big fields, and a pasted code loses
// the spaces and line ends that copying adds.
import { useEffect, useRef, useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { now } from "../../lib/time";
import { Button, Dialog, ErrorBox, Field, Icon, Text, TextInput } from "../../ui";
import type { AgentSession } from "./session";

/** How long the CLI's login waits for its code. */
const SESSION_SECONDS = 900;
const LOOK_MS = 1000;

/** What a pasted code is without what copying put into it. */
export function cleanCode(pasted: string): string {
  return pasted.replace(/[\s\u200b\u00a0]+/g, "");
}

export function LoginDialog({ session, onClose }: { session: AgentSession; onClose(): void }) {
  const { name } = session;
  const [code, setCode] = useState("");
  const [busy, setBusy] = useState<"" | "start" | "code">("");
  const [error, setError] = useState<ApiError>();
  const [startedAt, setStartedAt] = useState<number>();
  const field = useRef<HTMLInputElement>(null);
  const facts = session.facts.value;
  const login = facts.session;
  const given = useRef(false);
  const begun = startedAt !== undefined;
  const landed = begun && login?.finished === true && !login.exit_note;

  const start = (): void => {
    setBusy("start");
    setStartedAt(undefined);
    setError(undefined);
    given.current = false;
    request({ cmd: "login_start", name })
      .then(
        () => session.refreshFacts().then(() => setStartedAt(now.peek())),
        (failed: unknown) => setError(asApiError(failed)),
      )
      .finally(() => setBusy(""));
  };
  useEffect(start, [name]);

  // The login's progress is in no event: look while it runs.
  useEffect(() => {
    const timer = setInterval(() => void session.refreshFacts(), LOOK_MS);
    return () => clearInterval(timer);
  }, [session]);

  const hand = (): void => {
    const clean = cleanCode(code);
    if (!clean) return;
    setBusy("code");
    setError(undefined);
    request({ cmd: "login_code", name, code: clean })
      .then(
        () => {
          given.current = true;
          return session.refreshFacts();
        },
        (failed: unknown) => setError(asApiError(failed)),
      )
      .finally(() => {
        setBusy("");
        field.current?.select();
      });
  };

  const cancel = (): void => {
    void request({ cmd: "login_cancel", name }).catch(() => undefined);
    onClose();
  };
  const left = startedAt === undefined ? undefined : Math.max(0, startedAt + SESSION_SECONDS - now.value);
  const over = begun && login?.finished === true && !landed;
  const complaint = given.current && !landed ? lastWords(login?.output ?? "") : "";

  return (
    <Dialog
      title={`Log ${name} in`}
      onClose={landed || over ? onClose : cancel}
      footer={
        landed ? (
          <Button kind="primary" data-autofocus onClick={onClose}>Done</Button>
        ) : (
          <>
            <Button onClick={cancel}>Give up</Button>
            {over || (error && !begun) ? <Button kind="primary" icon="refresh" busy={busy === "start"} onClick={start}>Start again</Button> : <Button kind="primary" busy={busy === "code"} disabled={!cleanCode(code)} onClick={hand}>Log in</Button>}
          </>
        )
      }
    >
      {landed ? (
        <p class="login-done"><Icon name="check" /> {name} is logged in, and goes on with its mail.</p>
      ) : over ? (
        <p>The login ended{login.exit_note ? <>: <Text text={login.exit_note} /></> : ""}. Start it again for a new page.</p>
      ) : error && !begun ? null : (
        <ol class="login-steps">
          <li>
            {begun && login?.url && /^https:\/\//.test(login.url) ? (
              <>
                <a class="btn btn-primary login-open" href={login.url} target="_blank" rel="noopener noreferrer">
                  <Icon name="external" /> Open the login page
                </a>
                <p class="login-url mono"><Text text={login.url} line /></p>
              </>
            ) : !begun || !login ? (
              <p class="muted">Asking the CLI for its login page…</p>
            ) : (
              <pre class="code"><Text text={login.output} /></pre>
            )}
          </li>
          <li>
            <form
              onSubmit={(event) => {
                event.preventDefault();
                hand();
              }}
            >
              <Field label="Paste the code that it shows" error={complaint || undefined} {...(left === undefined ? {} : { hint: left > 0 ? `It is waited for ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")} longer` : "The time is over: start again" })}>
                <TextInput value={code} onValue={setCode} inputRef={field} class="mono login-code" autocapitalize="off" spellcheck={false} inputMode="text" onPaste={(event) => {
                  const text = event.clipboardData?.getData("text") ?? "";
                  if (!text) return;
                  event.preventDefault();
                  setCode(cleanCode(text));
                }} />
              </Field>
            </form>
          </li>
        </ol>
      )}
      {error && <ErrorBox error={error} />}
    </Dialog>
  );
}

/** The last line of what the CLI printed that is no prompt: why it did not take the code. */
export function lastWords(output: string): string {
  const lines = output.split("\n").map((line) => line.replace(/^.*prompted >\s*/, "").trim()).filter((line) => line !== "" && !/https:\/\//.test(line) && !/paste code/i.test(line));
  return lines.at(-1) ?? "";
}
