/* One agent's configuration: what is proposed, what is deployed, what is in force, and the way back. */

import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { request } from "../../lib/api";
import { bytes } from "../../lib/format";
import { useLoad } from "../../lib/load";
import type { Schemas } from "../../lib/protocol";
import { Link, setQuery } from "../../lib/router";
import { approvalChanges, container, transients } from "../../lib/store";
import { Age, AgentLink, Banner, Button, Chip, Empty, ErrorBox, Id, Loading, Page, Section, Select, Text } from "../../ui";
import { DiffView } from "../../ui/diff";
import { Rollback } from "./Rollback";
import "./config.css";

type Config = Schemas["AgentConfigPage"];

export default function Screen({ params, query }: ScreenProps): JSX.Element {
  const name = params["name"] ?? "";
  return <Agent key={name} name={name} proposal={Number(query["proposal"]) || undefined} />;
}

/** `proposal`: the approval whose proposal is shown; the newest where none is named. */
function Agent({ name, proposal }: { name: string; proposal: number | undefined }): JSX.Element {
  const words = [...approvalChanges.value.values()].filter((one) => one.agent === name).map((one) => one.stage);
  const loaded = useLoad((signal) => request({ cmd: "agent_config", name, ...(proposal === undefined ? {} : { proposal }) }, { signal }), [name, proposal, words.join()]);
  const config = loaded.value;
  const [target, setTarget] = useState<Schemas["Deployment"]>();
  return (
    <Page title={`Configuration of ${name}`} lead={<><AgentLink name={name} /> <Link href={`/audit?agent=${encodeURIComponent(name)}`}>who decided what</Link></>}>
      {loaded.error ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
      {config ? (
        <div class="config">
          <Stand name={name} config={config} />
          <Proposed name={name} config={config} />
          <Effective config={config} />
          <Files config={config} />
          <Deployments config={config} onPick={setTarget} />
        </div>
      ) : loaded.error ? null : <Loading lines={10} />}
      {target && config ? <Rollback name={name} config={config} target={target} onClose={() => setTarget(undefined)} /> : null}
    </Page>
  );
}

/** Where it stands: deployed, applied, and whether the two differ. */
function Stand({ name, config }: { name: string; config: Config }): JSX.Element {
  const { deployed, applied, proposed } = config;
  const view = container(name).value;
  const going = transients.value.get(name);
  return (
    <>
      <dl class="config-facts">
        <Fact label="Deployed">{deployed ? <><Chip title="The number of its deployment">{`#${deployed.id ?? 0}`}</Chip> <Id value={deployed.sha} label="commit" /> {deployed.at === undefined ? null : <Age sentence at={deployed.at} />}</> : "nothing"}</Fact>
        <Fact label="Applied">{applied ? <Id value={applied.sha} label="commit" /> : "nothing"}</Fact>
        <Fact label="Proposed">{proposed.sha ? <><Id value={proposed.sha} label="commit" /> {proposed.at === undefined ? null : <Age sentence at={proposed.at} />}</> : "nothing"}</Fact>
      </dl>
      {going ? <Banner tone="working" icon="clock"><Text text={`${name} is ${going}…`} /></Banner> : null}
      {deployed && applied && deployed.sha !== applied.sha ? <Banner tone="needs" icon="alert">What is applied is not what is deployed: a deploy is under way, or was cut short and is made good at the next start.</Banner> : null}
      {view?.needs_update ? <Banner tone="needs" icon="update">It was built from another revision than the hive’s (<Link href="/meta">inputs</Link> say which), or something of it waits for its next start. An update builds it anew.</Banner> : null}
    </>
  );
}

function Fact({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return <div><dt>{label}</dt><dd>{children}</dd></div>;
}

function Proposed({ name, config }: { name: string; config: Config }): JSX.Element | null {
  const { approval, differs, error } = config.proposed;
  if (approval === undefined || (!differs && !error && config.waiting.length === 0)) return null;
  return (
    <Section title="Proposed" actions={<><Choice config={config} /><Link class="btn btn-default" href={`/approvals/${approval}`}>{`Approval #${approval}`}</Link></>}>
      {error ? <Banner tone="failed" icon="alert">{`Approval #${approval} failed: `}<Text text={error} /></Banner> : null}
      {differs ? <ProposedDiff key={approval} name={name} approval={approval} /> : <p class="muted">It is what is deployed.</p>}
    </Section>
  );
}

/** Which of several that wait is shown; the address keeps it. */
function Choice({ config }: { config: Config }): JSX.Element | null {
  const { approval } = config.proposed;
  const others = config.waiting.filter((one) => one.id !== approval);
  if (others.length === 0) return null;
  const shown = config.waiting.find((one) => one.id === approval);
  const options = config.waiting.map((one) => ({ value: String(one.id), label: `#${one.id} waits, ${one.sha.slice(0, 8)}` }));
  if (shown === undefined && approval !== undefined) options.unshift({ value: String(approval), label: `#${approval}, decided` });
  return <Select aria-label="Which proposal" options={options} value={String(approval ?? "")} onValue={(id) => setQuery({ proposal: id })} />;
}

function ProposedDiff({ name, approval }: { name: string; approval: number }): JSX.Element {
  const shown = useLoad((signal) => request({ cmd: "show", id: approval }, { signal }), [approval]);
  if (shown.error) return <ErrorBox error={shown.error} retry={shown.reload} />;
  return shown.value ? <DiffView text={shown.value.diff} name={`${name}-proposed.diff`} /> : <Loading lines={4} />;
}

/** The settings in force, and what the operator's limits took away. */
function Effective({ config }: { config: Config }): JSX.Element {
  const rows = flat(config.effective);
  return (
    <Section title="In force">
      {config.cut.map((one) => <Banner key={one} tone="needs" icon="minus"><b>Cut by your limits:</b> <Text text={one} /></Banner>)}
      {rows.length === 0 ? <p class="muted">Nothing is set: the hive’s defaults hold.</p> : (
        <dl class="config-effective">
          {rows.map(([key, value]) => <div key={key}><dt><Text text={key} line /></dt><dd><Text text={value} /></dd></div>)}
        </dl>
      )}
    </Section>
  );
}

/** Settings by their full names: `tools.ask`, `limits.memory`; what is empty is left out. */
function flat(value: unknown, prefix = ""): readonly (readonly [string, string])[] {
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) return [];
  if (typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([key, one]) => flat(one, prefix ? `${prefix}.${key}` : key));
  }
  return [[prefix, Array.isArray(value) ? value.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ") : String(value)]];
}

function Files({ config }: { config: Config }): JSX.Element {
  const files = config.deployed?.files ?? [];
  return (
    <Section title="Files that are deployed" count={files.length}>
      {files.length === 0 ? <p class="muted">None: it runs with the defaults.</p> : null}
      <div class="config-files">
        {files.map((file) => (
          <details key={file.path} open={file.path === "agent.toml"}>
            <summary><code><Text text={file.path} line /></code> <span class="muted">{bytes(file.size)}</span></summary>
            {file.text === undefined ? <p class="muted">No text, or too long to be shown.</p> : <pre tabIndex={0}><Text text={file.text} /></pre>}
          </details>
        ))}
      </div>
    </Section>
  );
}

function Deployments({ config, onPick }: { config: Config; onPick: (target: Schemas["Deployment"]) => void }): JSX.Element {
  const now = config.deployed?.id;
  return (
    <Section title="Deployments" count={config.deployments.length}>
      {config.deployments.length === 0 ? <Empty title="Nothing was deployed yet" icon="undo" /> : (
        <ul class="config-deployments">
          {config.deployments.map((one) => (
            <li key={one.id}>
              <b>{`#${one.id}`}</b>
              <Id value={one.sha} label="commit" />
              <span class="muted">{one.at === undefined ? "what it began with" : <Age sentence at={one.at} />}</span>
              <span class="config-do">
                {one.id > 0 ? <Link href={`/approvals/${one.id}`}>what it changed</Link> : null}
                {one.id === now ? <Chip tone="ok" title="This is what runs">deployed</Chip> : <Button small icon="undo" onClick={() => onPick(one)}>Roll back…</Button>}
              </span>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
