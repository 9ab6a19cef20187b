// The agent's badges and what can be done to it. Every badge says in its title what it means.
import { useState } from "preact/hooks";
import { request } from "../../lib/api";
import { absolute, durationLong, money, percent, plural, shortSha, tokens } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { NARROW, useMedia } from "../../lib/media";
import type { ContainerView, TurnRow } from "../../lib/protocol";
import { Link, navigate } from "../../lib/router";
import { act, forgive, rowErrors, transients } from "../../lib/store";
import { now, until } from "../../lib/time";
import { Age, Button, Chip, ConfirmDialog, ErrorBox, Icon, Menu, Progress, StateBadge, TypedNameDialog, toast, type MenuItem, type Tone } from "../../ui";
import { contextOf, type LimitWindow } from "../../rows";
import type { AgentFacts } from "./session";
import { RESULTS } from "./turn-words";

const REASONS: Readonly<Record<string, string>> = {
  limited: "its account is at its limit",
  login: "it needs a login",
  budget: "its budget is used up",
  backoff: "it waits before it tries again",
  operator: "it waits for you",
};

const TURN_STATES: Readonly<Record<string, string>> = {
  idle: "No turn runs.",
  queued: "A turn waits for a free place.",
  thinking: "A turn runs.",
  compacting: "The session is being compacted.",
  waiting: "It waits.",
};

interface Props {
  name: string;
  view: ContainerView | undefined;
  facts: AgentFacts;
  last: TurnRow | undefined;
  onLogin(): void;
}

export function Badges({ name, view, facts, last, onLogin }: Props) {
  const page = `/agents/${encodeURIComponent(name)}`;
  const used = contextOf(facts.ctx);
  const working = facts.state === "thinking" || facts.state === "compacting";
  const unboxed = view?.isolation === "none" || view?.isolation === "process";
  const needsLogin = view?.needs_login || facts.login !== "online";
  const narrow = useMedia(NARROW); // there it scrolls sideways: by keys, too
  return (
    <div class="badges" role="group" aria-label={`State of ${name}`} tabIndex={narrow ? 0 : undefined}>
      <Chip
        tone={working ? "working" : facts.state === "waiting" ? "needs" : "muted"}
        icon={working ? "bolt" : facts.state === "waiting" ? "clock" : "circle"}
        title={`${TURN_STATES[facts.state] ?? facts.state}${facts.reason ? ` Why: ${REASONS[facts.reason] ?? facts.reason}.` : ""}${facts.since ? ` Since ${absolute(facts.since)}.` : ""}`}
      >
        <span class="badge-state">{facts.state}</span> {facts.since > 0 && <Age at={facts.since} />}
      </Chip>
      {needsLogin ? (
        <Chip tone="needs" icon="key" title="The agent is not logged in; its mail waits. Click to log it in." onClick={onLogin}>
          {facts.login === "needs_login_in_progress" ? "login under way" : "needs login"}
        </Chip>
      ) : (
        <Chip tone="ok" icon="key" title="The agent's account is logged in.">logged in</Chip>
      )}
      <Chip icon="bolt" title="The model of its next turn. Change it with /model NAME in the send box.">{facts.model || view?.model || "–"}</Chip>
      <Chip icon="meta" title={contextTitle(used, facts.window)} tone={used !== undefined && facts.window && used / facts.window > 0.8 ? "needs" : "muted"}>
        context {tokens(used)}
        {facts.window !== undefined && ` of ${tokens(facts.window)}`}
      </Chip>
      <Chip icon="wallet" title={costTitle(facts, last)}>last turn {money(last?.cost ? last.cost : undefined)}</Chip>
      {last && (
        <Chip
          tone={last.result_kind === "ok" ? "ok" : "failed"}
          icon={last.result_kind === "ok" ? "check" : "alert"}
          title={`Its last turn that ended: ${RESULTS[last.result_kind]?.means ?? last.result_kind} It took ${durationLong(last.duration_ms / 1000)}. Click for all turns.`}
          onClick={() => navigate(last.result_kind === "ok" ? `${page}/turns` : `${page}/turns?failed=1`)}
        >
          {RESULTS[last.result_kind]?.word ?? last.result_kind} <Age at={last.ended_at} />
        </Chip>
      )}
      {facts.limits.map((limit) => (
        <LimitChip key={limit.name} limit={limit} />
      ))}
      {view && (
        <>
          {view.budget_used !== undefined && (
            <Chip icon="wallet" tone={view.budget_used >= 1 ? "failed" : view.budget_used >= 0.9 ? "needs" : "muted"} title="How much of its tightest budget is used.">
              budget {percent(view.budget_used)} <Progress value={view.budget_used} label={`Budget ${percent(view.budget_used)} used`} />
            </Chip>
          )}
          <Chip icon="shield" tone={unboxed ? "needs" : "muted"} title={unboxed ? "It runs as a plain process: nothing keeps it from what you can read." : `It runs in a box of its own, kept by ${view.isolation}.`}>
            {unboxed ? "no isolation" : view.isolation}
          </Chip>
          <Chip icon="network" tone={view.network === "host" ? "needs" : "muted"} title={NETWORKS[view.network] ?? `Network: ${view.network}.`}>
            network {view.network}
          </Chip>
          <Chip icon="user" title="The account that pays for its turns.">{view.account || "no account"}</Chip>
          {view.unread > 0 && <Chip tone="accent" icon="inbox" title="Messages in its inbox that no turn has taken yet.">{view.unread} unread</Chip>}
          {view.deployed_sha && (
            <Chip icon="config" mono title={`The commit of its config that runs: ${view.deployed_sha}. Click for its config.`} onClick={() => navigate(`/config/${encodeURIComponent(name)}`)}>
              {shortSha(view.deployed_sha)}
            </Chip>
          )}
          {view.needs_update && <Chip tone="needs" icon="update" title="It was built by another revision of the hive, or something of it waits for its next start.">needs update</Chip>}
          {view.pending_reminders > 0 && <Chip icon="reminder" title="Reminders that are still to come.">{plural(view.pending_reminders, "reminder")}</Chip>}
          {view.held_by_operator && <Chip icon="stop" title="You stopped it; only you start it again.">held by you</Chip>}
        </>
      )}
    </div>
  );
}

const NETWORKS: Readonly<Record<string, string>> = {
  none: "It has no network; its model is reached through the hive.",
  out: "It reaches the network outside, and nothing of this host.",
  host: "It uses this host's network: everything that this host reaches, its own services too.",
};

function contextTitle(used: number | undefined, window: number | undefined): string {
  if (used === undefined) return "Tokens that its last request put before the model: not known yet.";
  return `Its last request put ${used.toLocaleString("en")} tokens before the model${window ? `, whose window is ${window.toLocaleString("en")}` : ""}.`;
}

function costTitle(facts: AgentFacts, last: TurnRow | undefined): string {
  const cost = facts.cost;
  const said = cost ? ` Tokens: ${cost.input} in, ${cost.cacheRead} from the cache, ${cost.cacheWrite} into it, ${cost.output} out.` : "";
  return `What its last turn cost, by list price${last?.cost ? "" : " (not known)"}.${said}`;
}

function LimitChip({ limit }: { limit: LimitWindow }) {
  const used = limit.used;
  const tone: Tone = limit.status === "rejected" ? "failed" : used !== undefined && used >= 0.9 ? "needs" : "muted";
  const name = { five_hour: "5 h", seven_day: "7 d" }[limit.name] ?? limit.name.replaceAll("_", " ");
  const resets = limit.resetsAt === undefined ? "" : ` It begins anew ${absolute(limit.resetsAt)}.`;
  return (
    <Chip icon="clock" tone={tone} title={`The account's usage limit over ${name}: ${used === undefined ? limit.status : `${percent(used)} used`}.${resets}`}>
      {name} {used === undefined ? limit.status : percent(used)}
      {limit.resetsAt !== undefined && ` · ${until(limit.resetsAt, now.value)}`}
    </Chip>
  );
}

type Asking = "" | "restart" | "stop" | "destroy" | "purge" | "new-session";

/** Start, stop and the rest: at hand what is done often, in a menu what is not. */
export function Lifecycle({ name, view, facts }: Pick<Props, "name" | "view" | "facts">) {
  const [asking, setAsking] = useState<Asking>("");
  const inTurn = facts.state === "thinking" || facts.state === "compacting";
  const running = view?.running ?? false;
  const busy = transients.value.get(name) !== undefined;
  const close = (): void => setAsking("");
  const start = (): void => void act(name, { cmd: "start", name }, "starting");
  const stop = (atOnce: boolean): Promise<unknown> => act(name, { cmd: "kill", name, now: atOnce }, "stopping");
  const restart = (atOnce: boolean): Promise<unknown> => act(name, { cmd: "restart", name, now: atOnce }, "restarting");
  const cancel = (): void =>
    void request({ cmd: "cancel", name }).then(
      () => toast("The turn is interrupted"),
      (error: Error) => toast(error.message, { tone: "failed" }),
    );
  useActions(
    [
      { id: "agent.start", title: `Start ${name}`, section: name, run: start, when: () => !running },
      { id: "agent.stop", title: `Stop ${name}`, section: name, run: () => setAsking("stop"), when: () => running },
      { id: "agent.restart", title: `Restart ${name}`, section: name, run: () => (inTurn ? setAsking("restart") : void restart(false)), when: () => running },
      { id: "agent.cancel", title: `Interrupt the turn of ${name}`, section: name, run: cancel, when: () => inTurn },
    ],
    [name, running, inTurn],
  );
  const items: MenuItem[] = [
    { label: "Restart", icon: "refresh", disabled: !running, run: () => (inTurn ? setAsking("restart") : void restart(false)) },
    { label: "Rebuild", icon: "rebuild", hint: "put right what drifted", run: () => void act(name, { cmd: "rebuild", name }, "rebuilding") },
    { label: "Update", icon: "update", hint: "to this revision of the hive", run: () => void act(name, { cmd: "update", name }, "rebuilding") },
    { label: "New session", icon: "session", disabled: inTurn, separate: true, run: () => setAsking("new-session") },
    { label: "Config", icon: "config", run: () => navigate(`/config/${encodeURIComponent(name)}`) },
    { label: "Log", icon: "logs", run: () => navigate(`/logs/${encodeURIComponent(name)}`) },
    ...(view?.role === "manager"
      ? []
      : ([
          { label: "Destroy…", icon: "archive", danger: true, separate: true, hint: "keeps its state", run: () => setAsking("destroy") },
          { label: "Purge…", icon: "trash", danger: true, hint: "deletes its state too", run: () => setAsking("purge") },
        ] as MenuItem[])),
  ];
  const failed = rowErrors.value.get(name);
  return (
    <>
      {inTurn && (
        <Button small icon="pause" onClick={cancel} title="Interrupt the running turn; its messages become dead letters">
          Interrupt
        </Button>
      )}
      {running ? (
        <Button small icon="stop" disabled={busy} onClick={() => setAsking("stop")}>
          Stop
        </Button>
      ) : (
        <Button small kind="primary" icon="play" disabled={busy} onClick={start}>
          Start
        </Button>
      )}
      <Menu label={`More for ${name}`} items={items} />
      {failed && (
        <div class="lifecycle-failed">
          <ErrorBox error={failed} retry={() => forgive(name)} />
        </div>
      )}
      {asking === "stop" && (
        <ConfirmDialog title={`Stop ${name}?`} confirm={inTurn ? "Stop after this turn" : "Stop"} onClose={close} onConfirm={() => void stop(false)}>
          <p>{inTurn ? "A turn runs. It may end first." : "No turn runs."} Its mail waits until you start it again; only you can.</p>
          {inTurn && (
            <p>
              <Button small kind="danger" icon="stop" onClick={() => (void stop(true), close())}>
                Stop at once
              </Button>
            </p>
          )}
        </ConfirmDialog>
      )}
      {asking === "restart" && (
        <ConfirmDialog title={`Restart ${name} in the middle of a turn?`} confirm="Restart after this turn" onClose={close} onConfirm={() => void restart(false)}>
          <p>The running turn ends first. To end it now, stop {name} at once; its messages are delivered again.</p>
        </ConfirmDialog>
      )}
      {asking === "new-session" && (
        <ConfirmDialog title="Start a new session?" confirm="New session" onClose={close} onConfirm={() => request({ cmd: "new_session", name })}>
          <p>The next turn of {name} starts without memory of the ones before. Its files stay.</p>
        </ConfirmDialog>
      )}
      {(asking === "destroy" || asking === "purge") && (
        <TypedNameDialog
          title={asking === "destroy" ? `Destroy ${name}?` : `Purge ${name}?`}
          phrase={name}
          confirm={asking === "destroy" ? "Destroy" : "Purge for good"}
          danger
          lostTitle={asking === "destroy" ? "Removed" : "Lost for good"}
          lost={asking === "destroy" ? ["its box and what runs in it", "its open approvals and questions"] : ["its state directory", "its credentials", "its config repos", "its reminders"]}
          kept={asking === "destroy" ? ["its state directory, as a tombstone", "its config repos", "mail that waits"] : ["the copy on the forge", "the audit log"]}
          onClose={close}
          onConfirm={() => request({ cmd: "destroy", name, purge: asking === "purge" }).then(() => navigate("/"))}
        />
      )}
    </>
  );
}

export function Heading({ name, view }: { name: string; view: ContainerView | undefined }) {
  return (
    <span class="agent-heading">
      <Link class="back" href="/" aria-label="All agents" title="All agents">
        <Icon name="back" />
      </Link>
      {name}
      {view && <StateBadge state={view.state} transient={transients.value.get(name) ?? view.transient} />}
      {view?.role === "manager" && <Chip tone="accent" title="The one agent that may ask for others, and start and stop them.">manager</Chip>}
    </span>
  );
}
