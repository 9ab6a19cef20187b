/* What the agents' environments are built from: which revisions are pinned, who needs an update, and updating either. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type ApiError, asApiError, request } from "../../lib/api";
import { durationLong, plural } from "../../lib/format";
import type { MetaInput } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { containers, facts, hive, metaInputs, transients } from "../../lib/store";
import { now } from "../../lib/time";
import { Age, AgentLink, Banner, Button, Chip, ConfirmDialog, Empty, ErrorBox, Id, Loading, Page, Section, Text } from "../../ui";
import "./meta.css";

const AGENT = "agent-";

export default function Screen(): JSX.Element {
  if (hive.value === undefined) return <Page title="Inputs"><Loading lines={6} /></Page>;
  const inputs = metaInputs.value;
  const shared = inputs.filter((one) => !one.name.startsWith(AGENT));
  const own = inputs.filter((one) => one.name.startsWith(AGENT));
  return (
    <Page title="Inputs" lead="What agents’ environments are built from. An update is prepared aside, built for everybody, and pinned only then.">
      <Outdated />
      <Shared inputs={shared} />
      <Section title="Agents’ own" count={own.length}>
        {own.length === 0 ? <Empty title="No agent has a configuration yet" icon="meta" /> : (
          <ul class="inputs">
            {own.map((one) => (
              <li key={one.name}>
                <AgentLink name={one.name.slice(AGENT.length)} />
                {one.rev ? <Id value={one.rev} label="commit" /> : null}
                <span class="muted">{one.updated_at === undefined ? "" : <>deployed <Age sentence at={one.updated_at} /></>}</span>
                <Link class="input-do" href={`/config/${encodeURIComponent(one.name.slice(AGENT.length))}`}>configuration</Link>
              </li>
            ))}
          </ul>
        )}
      </Section>
    </Page>
  );
}

/** What runs, since when, and what came of it: a request that takes its time is shown as just that. */
function useTask(): { since?: number; error?: ApiError; said?: string; run: (what: () => Promise<string>) => Promise<void> } {
  const [since, setSince] = useState<number>();
  const [error, setError] = useState<ApiError>();
  const [said, setSaid] = useState<string>();
  const run = async (what: () => Promise<string>): Promise<void> => {
    setSince(Math.floor(Date.now() / 1000));
    setError(undefined);
    setSaid(undefined);
    try {
      setSaid(await what());
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setSince(undefined);
    }
  };
  return { run, ...(since === undefined ? {} : { since }), ...(error ? { error } : {}), ...(said === undefined ? {} : { said }) };
}

function Outcome({ task, doing }: { task: ReturnType<typeof useTask>; doing: string }): JSX.Element {
  return (
    <>
      {task.since === undefined ? null : <Banner tone="working" icon="clock">{`${doing} for ${durationLong(now.value - task.since)}. You may leave this page.`}</Banner>}
      {task.said === undefined ? null : <Banner tone="ok" icon="check"><Text text={task.said} /></Banner>}
      {task.error ? <ErrorBox error={task.error} title="Nothing has changed." /> : null}
    </>
  );
}

/** Agents that were built from another revision than is pinned now. */
function Outdated(): JSX.Element | null {
  const waiting = containers.value.filter((one) => one.needs_update);
  const going = [...transients.value].filter(([, what]) => what === "rebuilding" || what === "restarting");
  const task = useTask();
  const [asking, setAsking] = useState(false);
  if (waiting.length === 0 && going.length === 0 && task.since === undefined && task.said === undefined && !task.error) return null;
  return (
    <Section title="Need an update" count={waiting.length} actions={waiting.length > 0 ? <Button icon="update" busy={task.since !== undefined} onClick={() => setAsking(true)}>Update all</Button> : null}>
      <Outcome task={task} doing="Updating" />
      {waiting.length > 0 || going.length > 0 ? (
        <ul class="inputs">
          {[...new Set([...waiting.map((one) => one.name), ...going.map(([name]) => name)])].map((name) => (
            <li key={name}>
              <AgentLink name={name} />
              {transients.value.has(name) ? <Chip tone="working" title="Under way">{`${transients.value.get(name)}…`}</Chip> : <Chip tone="needs" title="Built from another revision than the hive’s">waits</Chip>}
            </li>
          ))}
        </ul>
      ) : null}
      {asking ? (
        <ConfirmDialog
          title={`Update ${plural(waiting.length, "agent")}?`}
          confirm="Update"
          onClose={() => setAsking(false)}
          onConfirm={() => void task.run(async () => (await request({ cmd: "update_all" })).note ?? "All of them are up to date.")}
        >
          <p>Each is built anew and started on it at the end of its turn: {waiting.map((one) => one.name).join(", ")}.</p>
        </ConfirmDialog>
      ) : null}
    </Section>
  );
}

function Shared({ inputs }: { inputs: readonly MetaInput[] }): JSX.Element {
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const task = useTask();
  const names = inputs.map((one) => one.name).filter((name) => picked.has(name));
  const toggle = (name: string): void => {
    const next = new Set(picked);
    if (!next.delete(name)) next.add(name);
    setPicked(next);
  };
  return (
    <Section
      title="Shared by all"
      count={inputs.length}
      actions={
        <Button
          icon="update"
          disabled={names.length === 0}
          busy={task.since !== undefined}
          onClick={() => void task.run(async () => {
            const reply = await request({ cmd: "meta_update", inputs: names });
            setPicked(new Set());
            return reply.note ?? "Pinned.";
          })}
        >
          {names.length > 0 ? `Update ${plural(names.length, "input")}` : "Update inputs"}
        </Button>
      }
    >
      <Outcome task={task} doing="Locking and building" />
      {inputs.length === 0 ? <Empty title="There are none" icon="meta">Agents here are not built by Nix: an update of the hive itself is what brings new things.</Empty> : (
        <ul class="inputs">
          {inputs.map((one) => (
            <li key={one.name}>
              <label><input type="checkbox" checked={picked.has(one.name)} onChange={() => toggle(one.name)} /> <b><Text text={one.name} line /></b></label>
              {one.rev ? <Id value={one.rev} label="revision" /> : <span class="muted">not pinned</span>}
              <span class="muted">{one.updated_at === undefined ? "" : <>from <Age sentence at={one.updated_at} /></>}</span>
              {one.name === "hyperhive" && facts.value && one.rev !== facts.value.revision ? <Chip tone="needs" title="The hive itself runs from another revision">differs from the hive</Chip> : null}
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
