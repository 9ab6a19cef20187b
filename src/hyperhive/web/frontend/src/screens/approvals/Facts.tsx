/* What an approval is before its diff: who asked and why they could, how far it is, what it would do to the agent. */

import type { ComponentChildren, JSX } from "preact";
import { durationLong } from "../../lib/format";
import { useLoad } from "../../lib/load";
import type { Approval, AuditEntry } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { now } from "../../lib/time";
import { turnAt } from "../../lib/turn-at";
import { Age, AgentLink, Icon, Id, Sentence, Text } from "../../ui";
import { type Remarks, decisiveLines, stepsOf } from "./model";

export function Provenance({ approval }: { approval: Approval }): JSX.Element {
  return (
    <dl class="approval-facts">
      <Fact label="Agent"><AgentLink name={approval.agent} /></Fact>
      <Fact label="Asked by"><Text text={approval.requested_by ?? "unknown"} />, <Age sentence at={approval.requested_at} /> <Cause approval={approval} /></Fact>
      <Fact label="Kind">{approval.kind === "spawn" ? "a new agent (spawn)" : "a commit of its config repo (apply_commit)"}</Fact>
      {approval.commit_ref ? (
        <Fact label="Commit">
          {approval.base_ref ? <Id value={approval.base_ref} label="commit" /> : null}
          {approval.base_ref ? " → " : null}
          <Id value={approval.commit_ref} label="commit" />
        </Fact>
      ) : null}
    </dl>
  );
}

function Fact({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return <div><dt>{label}</dt><dd>{children}</dd></div>;
}

/** The turn that asked, and whose message began the chain that led to it. */
function Cause({ approval }: { approval: Approval }): JSX.Element | null {
  const { requested_by: name, requested_at: at } = approval;
  const isAgent = name !== undefined && !["operator", "system"].includes(name);
  const found = useLoad(async (signal) => {
    if (!isAgent) return undefined;
    return turnAt(name, at, signal);
  }, [name, at]);
  const turn = found.value;
  if (!isAgent || turn?.turn === undefined) return null;
  return (
    <span class="muted">
      in <Link href={`/agents/${name}/t/${turn.turn}`}>{`turn ${turn.turn}`}</Link>, woken by <Text text={turn.wake_from} />
      {turn.chain !== undefined ? <>, in a chain that <Text text={turn.root ?? "somebody"} />’s <Link href={`/messages?before=${turn.chain + 1}`}>{`message ${turn.chain}`}</Link> began</> : null}
    </span>
  );
}

const ICONS = { done: "check", now: "clock", failed: "x", waiting: "dot" } as const;

/** The stages, with how long each took, or takes. */
export function Stages({ approval, story }: { approval: Approval; story: readonly AuditEntry[] }): JSX.Element {
  const at = (name: string): number | undefined =>
    name === "proposal" ? approval.requested_at : story.find((entry) => entry.action === (name === "created" ? "deployed" : name))?.at;
  const decided = at("approved") ?? approval.resolved_at;
  return (
    <ol class="approval-steps" aria-label="Progress">
      {stepsOf(approval).map(({ name, state }) => {
        const since = name === "building" ? decided : at(name);
        const took = state === "now" && since !== undefined && name !== "proposal" ? durationLong(now.value - since) : undefined;
        return (
          <li key={name} class={state} aria-current={state === "now" ? "step" : undefined}>
            <Icon name={ICONS[state]} />
            <span>{name}</span>
            {took ? <span class="muted">{took}</span> : since !== undefined && state !== "waiting" && name !== "building" ? <span class="muted"><Age at={since} /></span> : null}
          </li>
        );
      })}
    </ol>
  );
}

export function Failure({ note }: { note: string }): JSX.Element {
  const { lines, left } = decisiveLines(note);
  return (
    <div class="approval-failure">
      <pre tabIndex={0} aria-label="Why it failed"><Text text={lines.join("\n")} /></pre>
      {left > 0 ? (
        <details>
          <summary>{`all ${lines.length + left} lines`}</summary>
          <pre><Text text={note} /></pre>
        </details>
      ) : null}
    </div>
  );
}

/** What the change means: what restarts, what is taken live, what limits cut. */
export function Meaning({ remarks }: { remarks: Remarks }): JSX.Element | null {
  const { restarts, live, cut, others } = remarks;
  if (restarts.length + live.length + cut.length + others.length === 0) return null;
  return (
    <ul class="approval-meaning">
      {restarts.length > 0 ? <li class="restart"><Icon name="rebuild" /><span><b>Restarts</b> between two turns, for <Text text={restarts.join(", ")} /></span></li> : null}
      {live.length > 0 ? <li><Icon name="play" /><span><b>Taken live</b>: <Text text={live.join(", ")} /></span></li> : null}
      {cut.map((one) => <li key={one} class="cut"><Icon name="minus" /><span><b>Cut by your limits</b>: <Text text={one} /></span></li>)}
      {others.map((one) => <li key={one}><Icon name="info" /><span><Sentence text={one} /></span></li>)}
    </ul>
  );
}
