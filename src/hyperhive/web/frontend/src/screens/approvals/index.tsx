/* Approvals: what waits for the operator's word, what is being carried out, and one of them whole. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { request } from "../../lib/api";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import { Link, navigate } from "../../lib/router";
import { approvalChanges, approvals, hive } from "../../lib/store";
import { wayOf } from "../../lib/ways";
import { Age, Chip, Empty, ErrorBox, Loading, Page, Section, Text } from "../../ui";
import { forgetOthers } from "../../ui/diff/memory";
import { Detail } from "./Detail";
import { isOpen, isUnderWay } from "./model";
import { ApprovalRow } from "./row";
import "./approvals.css";

export default function Screen({ params }: { params: Readonly<Record<string, string>> }): JSX.Element {
  const id = Number(params["id"] ?? params["ID"]);
  return Number.isSafeInteger(id) && id > 0 ? <Detail key={id} id={id} /> : <List />;
}

function List(): JSX.Element {
  const all = approvals.value;
  const open = all.filter(isOpen);
  const going = [...new Map([...all, ...approvalChanges.value.values()].filter(isUnderWay).map((one) => [one.id, one])).values()];
  const rows = [...open, ...going];
  const known = hive.value !== undefined;
  useEffect(() => {
    if (known) forgetOthers(approvals.peek().map((one) => one.id));
  }, [known]);
  const [at, setAt] = useState(0);
  const current = Math.min(at, rows.length - 1);
  useActions(
    [
      { id: "approvals.next", title: "Next approval", section: "Approvals", keys: "j", hidden: true, run: () => setAt(Math.min(current + 1, rows.length - 1)) },
      { id: "approvals.previous", title: "Previous approval", section: "Approvals", keys: "k", hidden: true, run: () => setAt(Math.max(current - 1, 0)) },
      { id: "approvals.open", title: "Open the approval", section: "Approvals", keys: "enter", hidden: true, run: () => rows[current] && navigate(`/approvals/${rows[current].id}`) },
    ],
    [current, rows.length],
  );
  return (
    <Page title="Approvals" lead="What agents ask you to let happen. What you approve is exactly what you saw.">
      {hive.value === undefined ? (
        <Loading lines={4} />
      ) : open.length === 0 ? (
        <Empty title="Nothing waits for your approval" icon="approvals" command="hyperhive pending">
          Changes to an agent’s configuration, and new agents, come here first.
        </Empty>
      ) : (
        <Section title="Waiting for you" count={open.length}>
          <div class="approval-list">{open.map((one, index) => <ApprovalRow key={one.id} approval={one} current={index === current} />)}</div>
        </Section>
      )}
      {going.length > 0 ? (
        <Section title="Being carried out" count={going.length}>
          <div class="approval-list">{going.map((one, index) => <ApprovalRow key={one.id} approval={one} current={open.length + index === current} />)}</div>
        </Section>
      ) : null}
      <Decided />
    </Page>
  );
}

/** The last words given: where to look after the fact. */
function Decided(): JSX.Element {
  const changes = approvalChanges.value;
  const audit = useLoad((signal) => request({ cmd: "audit", limit: 40 }, { signal }), [changes.size]);
  if (audit.error) return <ErrorBox error={audit.error} retry={audit.reload} />;
  const seen = new Set<number>();
  const last = (audit.value?.entries ?? []).filter((entry) => entry.action !== "requested" && !seen.has(entry.approval) && seen.add(entry.approval)).slice(0, 12);
  if (last.length === 0) return <></>;
  const tones = { denied: "muted", failed: "failed", deployed: "ok", approved: "working", rollback: "working" } as Record<string, "muted" | "failed" | "ok" | "working">;
  return (
    <Section title="Decided lately" actions={<Link href="/audit">Whole audit</Link>}>
      <div class="approval-list">
        {last.map((entry) => (
          <Link key={entry.id} href={`/approvals/${entry.approval}`} class="approval-row quiet">
            <span class="approval-row-what">
              <strong><Text text={entry.agent} /></strong>
              <span class="muted">{`#${entry.approval}`} · <Age sentence at={entry.at} /> · <Text text={`${entry.who} ${wayOf(entry.channel)}`} /></span>
            </span>
            <Chip tone={tones[entry.action] ?? "muted"} title={`${entry.action} by ${entry.who}`}>{entry.action}</Chip>
          </Link>
        ))}
      </div>
    </Section>
  );
}
