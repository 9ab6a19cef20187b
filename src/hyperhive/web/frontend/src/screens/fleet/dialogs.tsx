// Dialogs of the fleet: a new agent, stop all, update all, destroy.
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { plural } from "../../lib/format";
import type { ContainerView, Request, Transient } from "../../lib/protocol";
import { navigate } from "../../lib/router";
import { act, actOnAll } from "../../lib/store";
import { Button, ConfirmDialog, Dialog, ErrorBox, Field, IconButton, Select, Switch, TextInput, toast, TypedNameDialog } from "../../ui";

const NAME = /^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const TAKEN = ["operator", "manager", "system", "hive", "root", "all"];

/** Why this is no name for an agent; undefined where it is one. */
export function nameError(name: string): string | undefined {
  if (TAKEN.includes(name) && name !== "manager") return `“${name}” has a meaning of its own.`;
  if (!NAME.test(name)) return "Lower-case letters, digits and dashes; begins with a letter, ends with a letter or digit.";
  return undefined;
}

interface MountRow {
  source: string;
  target: string;
  mode: "ro" | "rw";
}

/** `ask`: through the approval queue, as an agent would. */
export function SpawnDialog({ ask, onClose }: { ask?: boolean; onClose(): void }): VNode {
  const [name, setName] = useState("");
  const [mounts, setMounts] = useState<readonly MountRow[]>([]);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const bad = name === "" ? undefined : nameError(name);
  const change = (at: number, part: Partial<MountRow>): void => setMounts(mounts.map((row, i) => (i === at ? { ...row, ...part } : row)));
  const go = (): void => {
    if (name === "" || bad || busy) return;
    setBusy(true);
    setError(undefined);
    const wanted = mounts.filter((row) => row.source !== "");
    const asked: Request = ask ? { cmd: "request_spawn", name } : { cmd: "spawn", name, ...(wanted.length > 0 && { mounts: wanted }) };
    request(asked).then(
      () => {
        onClose();
        if (ask) toast(`${name} waits for your approval`, { action: { label: "Show", run: () => navigate("/approvals") } });
        else navigate(`/agents/${name}`);
      },
      (failed: unknown) => {
        setError(asApiError(failed));
        setBusy(false);
      },
    );
  };
  return (
    <Dialog
      title={ask ? "Ask for a new agent" : "New agent"}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" busy={busy} disabled={name === "" || bad !== undefined} onClick={go}>
            {ask ? "Queue for approval" : "Create and start"}
          </Button>
        </>
      }
    >
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          go();
        }}
      >
        <Field label="Name" hint={ask ? "It is created once you approve it." : "It starts at once. A destroyed agent of this name is picked up again, with its state."} error={bad}>
          <TextInput value={name} onValue={setName} class="mono" placeholder="parser" autocapitalize="off" spellcheck={false} />
        </Field>
        {!ask && (
          <>
            {mounts.map((row, at) => (
              <fieldset key={at} class="mount">
                <legend class="field-label">Directory {at + 1}</legend>
                <TextInput aria-label="Directory on the host" placeholder="/srv/code/app" value={row.source} onValue={(source) => change(at, { source })} class="mono" />
                <TextInput aria-label="Where the agent sees it" placeholder="/workspace/app" value={row.target} onValue={(target) => change(at, { target })} class="mono" />
                <Select aria-label="Access" options={[{ value: "ro", label: "read only" }, { value: "rw", label: "read, write" }]} value={row.mode} onValue={(mode) => change(at, { mode })} />
                <IconButton icon="close" label={`Remove directory ${at + 1}`} onClick={() => setMounts(mounts.filter((_, i) => i !== at))} />
              </fieldset>
            ))}
            <div>
              <Button small icon="plus" onClick={() => setMounts([...mounts, { source: "", target: "/workspace/", mode: "ro" }])}>
                Let it see a directory
              </Button>
            </div>
          </>
        )}
        <button type="submit" hidden />
      </form>
      {error && <ErrorBox error={error} />}
    </Dialog>
  );
}

/** The same to each of them; the rows say how each went. */
async function each(agents: readonly string[], asked: (name: string) => Request, what: Transient): Promise<void> {
  const failed = await actOnAll(agents, asked, what);
  if (failed > 0) toast(`${plural(failed, "agent")} of ${agents.length} refused; their rows say why`, { tone: "failed" });
}

export const forEachAgent = each;

/** The set is what it was when the dialog opened. */
export function StopAllDialog({ agents, onClose }: { agents: readonly ContainerView[]; onClose(): void }): VNode {
  const [names] = useState(() => agents.map((agent) => agent.name));
  const [instantly, setNow] = useState(false);
  const turns = agents.filter((agent) => agent.turn_state === "thinking").length;
  return (
    <ConfirmDialog title={`Stop ${plural(names.length, "agent")}?`} confirm={`Stop ${names.length}`} danger onConfirm={() => void each(names, (name) => ({ cmd: "kill", name, wait: true, ...(instantly && { now: true }) }), "stopping")} onClose={onClose}>
      <p>No new turn begins. Start them again one by one or together; no message is lost.</p>
      <p class="muted names">{names.join(", ")}</p>
      <Switch checked={instantly} onChange={setNow} label="Now" hint={turns > 0 ? `Ends ${plural(turns, "running turn")} at once; their messages come again.` : "Does not wait for running turns."} />
    </ConfirmDialog>
  );
}

export function UpdateAllDialog({ agents, onClose }: { agents: readonly ContainerView[]; onClose(): void }): VNode {
  const [names] = useState(() => agents.map((agent) => agent.name));
  return (
    <ConfirmDialog
      title={names.length === 0 ? "Nothing to update" : `Update ${plural(names.length, "agent")}?`}
      confirm={names.length === 0 ? "Close" : `Update ${names.length}`}
      onConfirm={() => (names.length === 0 ? undefined : request({ cmd: "update_all" }).then(() => toast("Updating, one after the other")))}
      onClose={onClose}
    >
      {names.length === 0 ? <p>Every agent is built from the hive's current revision.</p> : <p>Each is rebuilt from its approved config on the hive's current revision, after its running turn.</p>}
      <p class="muted names">{names.join(", ")}</p>
    </ConfirmDialog>
  );
}

export function DestroyDialog({ name, onClose }: { name: string; onClose(): void }): VNode {
  const [purge, setPurge] = useState(false);
  return (
    <TypedNameDialog
      title={`Destroy ${name}`}
      phrase={name}
      confirm={purge ? "Destroy and purge" : "Destroy"}
      lostTitle={purge ? "Lost for good" : "Removed"}
      lost={purge ? ["its files, home and memory", "its CLI's session and login", "its event history"] : ["its running environment"]}
      kept={purge ? ["messages and decisions that name it"] : ["its files, home and memory", "its session, so that it can be restored", "messages and decisions that name it"]}
      onConfirm={() => act(name, { cmd: "destroy", name, ...(purge && { purge: true }) }, "destroying")}
      onClose={onClose}
    >
      <Switch checked={purge} onChange={setPurge} label="Purge its state, too" hint="Cannot be undone." />
    </TypedNameDialog>
  );
}
