/* Who decided what, when, by which way, on which commit, and why. It never changes; it can be taken away as JSON. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { type ApiError, asApiError, request } from "../../lib/api";
import { useLoad } from "../../lib/load";
import type { AuditEntry } from "../../lib/protocol";
import { Link, setQuery } from "../../lib/router";
import { agentNames, approvalChanges } from "../../lib/store";
import { wayOf } from "../../lib/ways";
import { Age, AgentLink, Button, Chip, Empty, ErrorBox, Id, Loading, Page, Select, Table, Text } from "../../ui";
import { everything } from "./entries";
import "./audit.css";

const PAGE = 100;
const TONES = { approved: "ok", deployed: "ok", denied: "muted", failed: "failed", rollback: "needs", requested: "accent" } as const;

export default function Screen({ query }: ScreenProps): JSX.Element {
  const agent = query["agent"] || undefined;
  const before = Number(query["before"]) || undefined;
  return (
    <Page
      title="Audit"
      wide
      lead="Every decision, in the words it was given. Nothing here can be changed."
      actions={
        <span class="audit-actions">
          <Select
            aria-label="About"
            options={[{ value: "", label: "all agents" }, ...agentNames.value.map((name) => ({ value: name, label: name }))]}
            value={agent ?? ""}
            onValue={(name) => setQuery({ agent: name || undefined, before: undefined })}
          />
          <Export agent={agent} />
        </span>
      }
    >
      <Entries key={`${agent} ${before}`} agent={agent} before={before} />
    </Page>
  );
}

function Entries({ agent, before }: { agent: string | undefined; before: number | undefined }): JSX.Element {
  const loaded = useLoad(
    async (signal) => (await request({ cmd: "audit", limit: PAGE, ...(agent ? { agent } : {}), ...(before ? { before } : {}) }, { signal })).entries,
    [agent, before, approvalChanges.value.size],
  );
  if (loaded.error) return <ErrorBox error={loaded.error} retry={loaded.reload} />;
  const rows = loaded.value;
  if (!rows) return <Loading lines={10} />;
  if (rows.length === 0) return <Empty title="Nothing was decided yet" icon="audit" command="hyperhive audit" />;
  return (
    <>
      {before ? <p><Link href={agent ? `/audit?agent=${encodeURIComponent(agent)}` : "/audit"}>To the newest</Link></p> : null}
      <div class="audit">
        <Table
          label="Decisions, newest first"
          rows={rows}
          keyOf={(row: AuditEntry) => row.id}
          columns={[
            { id: "at", title: "When", render: (row) => <Age at={row.at} /> },
            { id: "what", title: "What", render: (row) => <Chip tone={TONES[row.action as keyof typeof TONES] ?? "muted"} title={row.action}><Text text={row.action} line /></Chip> },
            { id: "approval", title: "Approval", render: (row) => <Link href={`/approvals/${row.approval}`}>{`#${row.approval}`}</Link> },
            { id: "agent", title: "Agent", render: (row) => <span class="audit-name"><AgentLink name={row.agent} /></span> },
            { id: "who", title: "Who", render: (row) => <span class="audit-name"><Text text={row.who} line /> <span class="muted">{wayOf(row.channel)}</span></span> },
            { id: "sha", title: "Commit", render: (row) => (row.sha ? <Id value={row.sha} label="commit" /> : <span class="muted">–</span>) },
            { id: "why", title: "Why", grow: true, render: (row) => <span class="audit-why">{row.why ? <Text text={row.why} /> : ""}</span> },
          ]}
        />
      </div>
      {rows.length === PAGE ? <p class="audit-more"><Link class="btn btn-default" href={`/audit?${new URLSearchParams({ ...(agent ? { agent } : {}), before: String(rows.at(-1)?.id) })}`}>Older</Link></p> : null}
    </>
  );
}

/** The whole audit, or one agent's, as a file. */
function Export({ agent }: { agent: string | undefined }): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const run = async (): Promise<void> => {
    setBusy(true);
    setError(undefined);
    try {
      save(`audit${agent ? `-${agent}` : ""}.json`, JSON.stringify(await everything(agent), undefined, 2));
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <Button icon="down" busy={busy} onClick={() => void run()}>JSON</Button>
      {error ? <ErrorBox error={error} /> : null}
    </>
  );
}

function save(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
