/* Who may get in, and what agents may do unasked: browsers that are logged in, links for another one, standing rules. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type ApiError, asApiError, currentSession, logout, request } from "../../lib/api";
import { useLoad } from "../../lib/load";
import type { Schemas } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { Age, AgentLink, Button, Chip, ConfirmDialog, Empty, ErrorBox, Id, Loading, Page, Section, Text, Until, toast } from "../../ui";
import { browserOf } from "./browser";
import "./sessions.css";

export default function Screen(): JSX.Element {
  return (
    <Page title="Sessions" lead="Whoever is logged in here is the operator.">
      <Browsers />
      <Another />
      <Rules />
    </Page>
  );
}

function Browsers(): JSX.Element {
  const loaded = useLoad(async (signal) => (await request({ cmd: "web_sessions" }, { signal })).sessions, []);
  const [error, setError] = useState<ApiError>();
  const end = async (one: Schemas["WebSession"]): Promise<void> => {
    setError(undefined);
    try {
      await request({ cmd: "end_web_session", id: one.id });
      toast("That browser is logged out");
      loaded.reload();
    } catch (failure) {
      setError(asApiError(failure));
    }
  };
  return (
    <Section title="Browsers that are logged in" count={loaded.value?.length ?? 0} actions={<Button icon="lock" onClick={() => void logout().catch(() => undefined)}>Log out here</Button>}>
      {loaded.error ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
      {error ? <ErrorBox error={error} /> : null}
      {loaded.value === undefined ? (loaded.error ? null : <Loading lines={2} />) : (
        <ul class="sessions">
          {loaded.value.map((one) => (
            <li key={one.id}>
              <b title={one.browser}><Text text={browserOf(one.browser)} line /></b>
              {one.id === currentSession() ? <Chip title="The browser that you look at this with" tone="ok">this one</Chip> : null}
              <span class="muted">
                logged in <Age sentence at={one.created_at} />
                {one.last_used_at === undefined ? "" : <>, used <Age sentence at={one.last_used_at} /></>}, ends <Until at={one.expires_at} />
              </span>
              <Button small kind="danger" onClick={() => void end(one)}>Log out</Button>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

/** A link that logs another browser in, once: a phone's, say. */
function Another(): JSX.Element {
  const [link, setLink] = useState<Schemas["LoginUrl"]>();
  const [error, setError] = useState<ApiError>();
  const make = async (): Promise<void> => {
    setError(undefined);
    try {
      setLink(await request({ cmd: "login_link" }));
    } catch (failure) {
      setError(asApiError(failure));
    }
  };
  return (
    <Section title="Log in another browser" actions={<Button icon="key" onClick={() => void make()}>Make a link</Button>}>
      {error ? <ErrorBox error={error} /> : null}
      {link ? (
        <p class="session-link">
          <Id value={link.url} label="link" /> <Chip icon="clock" title="Then it opens nothing any more"><Until at={link.expires_at} prefix="ends in" /></Chip>
          <span class="muted">Once, by whoever has it.</span>
        </p>
      ) : (
        <p class="muted"><code>hyperhive open</code> prints one as well. From elsewhere the address must be reached first: by ssh, or over your own network.</p>
      )}
    </Section>
  );
}

/** What the operator allowed once and for all. */
function Rules(): JSX.Element {
  const loaded = useLoad(async (signal) => (await request({ cmd: "tool_rules" }, { signal })).rules, []);
  const [revoking, setRevoking] = useState<Schemas["ToolRule"]>();
  return (
    <Section title="Tools that agents may use unasked" count={loaded.value?.length ?? 0}>
      {loaded.error ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
      {loaded.value === undefined ? (loaded.error ? null : <Loading lines={2} />) : loaded.value.length === 0 ? (
        <Empty title="No standing rules" icon="shield" command="hyperhive tool-rules">“Allow always”, said to a tool call, makes one.</Empty>
      ) : (
        <ul class="sessions">
          {loaded.value.map((rule) => (
            <li key={rule.id}>
              <AgentLink name={rule.agent} />
              <Chip tone="accent" mono title="The tool"><Text text={rule.tool} line /></Chip>
              <span class="muted">
                {rule.input === undefined ? "any input" : "exactly one input"}, allowed <Age sentence at={rule.allowed_at} /> by <Text text={rule.allowed_by} line /> in <Link href={`/questions/${rule.question}`}>{`question ${rule.question}`}</Link>
              </span>
              <Button small kind="danger" onClick={() => setRevoking(rule)}>Revoke</Button>
              {rule.input === undefined ? null : <pre tabIndex={0}><Text text={JSON.stringify(rule.input, undefined, 2)} /></pre>}
            </li>
          ))}
        </ul>
      )}
      {revoking ? (
        <ConfirmDialog
          title={`Ask again before ${revoking.agent} uses ${revoking.tool}?`}
          confirm="Revoke"
          onClose={() => setRevoking(undefined)}
          onConfirm={async () => {
            await request({ cmd: "tool_rules", revoke: revoking.id });
            loaded.reload();
          }}
        >
          <p>The next such call comes to you again. What it has done already stays done.</p>
        </ConfirmDialog>
      ) : null}
    </Section>
  );
}
