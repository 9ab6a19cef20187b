"""Commands about which agents there are and whether they run: list, status, spawn, kill and their kin.

Each is one request; stopping waits for the running turn for as long as the hive lets it.
"""

import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.link import Answer
from hyperhive.cli.render import age, ago, count, plural, table
from hyperhive.errors import BadRequest, HiveError
from hyperhive.names import MANAGER
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import AgentDetail, Agents, HiveInfo, HiveStatus, Ok
from hyperhive.protocol.types import ContainerView
from hyperhive.terminal import visible

NEEDS_UPDATE = (
    "it runs what another revision or other settings made: `hyperhive update NAME` builds and starts it anew"
)

Now = Annotated[bool, Parameter(negative="")]

_KEYS = {"gateway": " (its key stays with the hive)", "environment": " (the agent can read its key)"}
_STATE_COLOURS = {"needs_you": "amber", "failed": "red", "working": "blue", "idle": "green", "stopped": "dim"}


def list_agents(
    *, every: Annotated[bool, Parameter(name="--all", negative="")] = False, common: Common = DEFAULTS
) -> int:
    """List the agents: name, state, what they are doing and since when, unread mail, model.

    Args:
        every: list the destroyed ones as well, whose state is kept.
        common: flags of every command.
    """
    session = Session(common)
    if common.as_json:
        return session.show(session.ask(r.List()), lambda: None)
    status = session.ask(r.Status()).read(HiveStatus)
    print_agents(session, [detail.view for detail in status.agents])
    print_questions(session, status.hive)
    if every:
        _print_tombstones(session, status.hive)
    return 0


def status(name: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Show the hive and its agents, or one agent with its mounts, session and warnings.

    Args:
        name: an agent; without one, the hive.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Status(name=name))

    def render() -> None:
        reply = answer.read(HiveStatus)
        if name is None:
            _print_hive(session, reply.hive)
            session.screen.line()
            print_agents(session, [detail.view for detail in reply.agents])
            _print_tombstones(session, reply.hive)
            _print_shared_warnings(session, reply.agents)
        else:
            for detail in reply.agents:
                _print_detail(session, detail)

    return session.show(answer, render)


def spawn(
    name: str,
    /,
    *,
    mount: Annotated[list[str] | None, Parameter(negative="")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Create an agent and start it at once. A destroyed one is picked up again.

    Args:
        name: a new name: a-z, 0-9 and '-'.
        mount: a directory that the agent sees under /workspace, as DIR or DIR:rw; may be repeated.
        common: flags of every command.
    """
    mounts = None
    if mount:
        from hyperhive.lifecycle.mounts import parse_mount
        from hyperhive.protocol.types import Mount

        parsed = [parse_mount(text, Path.cwd()) for text in mount]
        mounts = [Mount(source=each.source, target=each.target, mode=each.mode) for each in parsed]
    return _act(
        common,
        r.Spawn(name=name, mounts=mounts),
        f"{name} is created; write to it: hyperhive send {name} ...",
    )


def start(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Start a stopped agent.

    Args:
        name: the agent.
        common: flags of every command.
    """
    return _act(common, r.Start(name=name), f"{name} is started")


def kill(
    name: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    now: Now = False,
    common: Common = DEFAULTS,
) -> int:
    """Stop an agent: its running turn ends first. It stays stopped until you start it.

    Args:
        name: the agent.
        every: stop all agents.
        now: end the running turn at once; its messages come again later.
        common: flags of every command.
    """
    if (name is None) is not every:
        raise BadRequest("kill takes the name of an agent, or --all")
    if name is not None:
        return _act(common, r.Kill(name=name, now=now), f"{name} is stopped")
    session = Session(common)
    names = session.ask(r.List()).read(Agents).agents
    outcomes = session.link.ask_all([r.Kill(name=each, now=now, wait=True) for each in names], timeout=None)
    return _print_outcomes(session, names, outcomes, "stopped", "; start one with `hyperhive start`")


def restart(name: str, /, *, now: Now = False, common: Common = DEFAULTS) -> int:
    """Stop and start an agent.

    Args:
        name: the agent.
        now: end the running turn at once; its messages come again.
        common: flags of every command.
    """
    return _act(common, r.Restart(name=name, now=now), f"{name} is restarted")


def destroy(name: str, /, *, purge: Now = False, now: Now = False, common: Common = DEFAULTS) -> int:
    """Stop and remove an agent. Its state is kept, and `restore` brings it back, unless --purge.

    Args:
        name: the agent.
        purge: delete its state, login and mail for good as well.
        now: end the running turn at once.
        common: flags of every command.
    """
    done = (
        f"{name} is gone for good"
        if purge
        else f"{name} is destroyed; its state is kept: hyperhive restore {name}"
    )
    return _act(common, r.Destroy(name=name, purge=purge, now=now), done)


def restore(
    name: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    common: Common = DEFAULTS,
) -> int:
    """Bring a destroyed agent back, with the state it had, as it was deployed last.

    Args:
        name: the agent.
        every: bring back all of them; `status` lists them.
        common: flags of every command.
    """
    if (name is None) is not every:
        raise BadRequest("restore takes the name of an agent, or --all")
    if name is not None:
        return _act(common, r.Restore(name=name), f"{name} is back")
    session = Session(common)
    names = list(session.ask(r.Status()).read(HiveStatus).hive.tombstones)
    outcomes = session.link.ask_all([r.Restore(name=each) for each in names], timeout=None)
    return _print_outcomes(session, names, outcomes, "restored")


def _print_outcomes(
    session: Session, names: list[str], outcomes: list[Answer | HiveError], done: str, then: str = ""
) -> int:
    """What became of each agent, and how many are `done`."""
    failed = {
        each: error for each, error in zip(names, outcomes, strict=True) if isinstance(error, HiveError)
    }
    if session.common.as_json:
        well = [each for each in names if each not in failed]
        errors = {each: {"error": error.message, "code": error.wire_code} for each, error in failed.items()}
        document = {"ok": not failed, done: well, **({"failed": errors} if failed else {})}
        session.screen.json(msgspec.json.encode(document))
    else:
        for each, error in failed.items():
            session.screen.error(f"{each}: {error.message}", error.hint)
        for each, outcome in zip(names, outcomes, strict=True):
            if not isinstance(outcome, HiveError) and (note := outcome.read(Ok).note):
                session.screen.note(f"{each}: {note}")
        session.screen.line(f"{plural(len(names) - len(failed), 'agent')} {done}{then}")
    return 1 if failed else 0


def _act(common: Common, request: r.Request, done: str) -> int:
    session = Session(common)
    answer = session.ask(request, timeout=None)

    def render() -> None:
        session.screen.line(visible(done))
        if note := answer.read(Ok).note:
            session.screen.note(note)

    return session.show(answer, render)


# --- printing -------------------------------------------------------------------------------------------------------


def print_agents(session: Session, views: list[ContainerView], *, limit: int | None = None) -> None:
    """The fleet as a table: who needs the operator comes first; at most `limit` of them."""
    screen = session.screen
    if not views:
        screen.line("no agents yet; create one with `hyperhive spawn NAME`")
        return
    clock = time.time()
    order = {"needs_you": 0, "failed": 1, "working": 2, "idle": 3, "stopped": 4}
    views = sorted(views, key=lambda view: (order.get(view.state, 9), view.name != MANAGER, view.name))
    views, more = views[:limit], len(views[limit:]) if limit is not None else 0
    states = iter([view.state for view in views])

    def paint(column: int, cell: str) -> str:
        return screen.paint(cell, _STATE_COLOURS.get(next(states), "dim")) if column == 1 else cell

    rows = [
        [
            view.name,
            view.state.replace("_", " "),
            doing(view, clock),
            str(view.unread),
            view.model,
            _isolation(view),
        ]
        for view in views
    ]
    header = ("NAME", "STATE", "DOING", "UNREAD", "MODEL", "ISOLATION")
    screen.lines(table(header, rows, screen.columns, right=frozenset({3}), paint=paint))
    if more:
        screen.line(f"and {more} more")


def _isolation(view: ContainerView) -> str:
    """What isolates an agent; that it shares the host's network is said beside it."""
    shared = view.isolation != "none" and view.network == "host"
    return f"{view.isolation}, host network" if shared else view.isolation


def doing(view: ContainerView, now: float) -> str:
    """What an agent does, and since when, in a few words."""
    if view.transient:
        return view.transient
    if not view.running:
        return "by you" if view.held_by_operator else "-"
    reason = f" ({view.waiting_reason})" if view.waiting_reason else ""
    until = (
        f", again in {age(view.waiting_until - now)}"
        if view.waiting_until and view.waiting_until > now
        else ""
    )
    return f"{view.turn_state}{reason} {age(now - view.turn_state_since)}{until}"


def print_questions(session: Session, hive: HiveInfo) -> None:
    """That questions wait for the operator, where any do."""
    if hive.questions:
        waits = "waits" if hive.questions == 1 else "wait"
        text = f"{plural(hive.questions, 'question')} {waits} for you: hyperhive questions"
        session.screen.line(session.screen.paint(text, "amber"))


def _print_hive(session: Session, hive: HiveInfo) -> None:
    screen = session.screen
    screen.line(f"hive {visible(hive.revision)}, runtime {visible(hive.runtime)}, pid {hive.pid}, "
                f"up since {ago(hive.started_at, time.time())}")  # fmt: skip
    screen.line(f"state {visible(hive.state_dir)}, sockets {visible(hive.run_dir)}")
    if hive.dashboard is not None:
        screen.line(f"dashboard {visible(hive.dashboard)}: hyperhive open")
    unread = f"{plural(hive.operator_unread, 'message')} for you"
    screen.line(f"{unread}: hyperhive inbox" if hive.operator_unread else unread)
    print_questions(session, hive)
    if hive.dead:
        screen.line(screen.paint(f"{plural(hive.dead, 'dead letter')}: hyperhive dead", "amber"))
    if hive.held:
        screen.line(screen.paint(f"{plural(hive.held, 'held message')}: hyperhive questions", "amber"))
    for warning in hive.warnings:
        screen.line(screen.paint(f"! {visible(warning)}", "amber"))


def _print_tombstones(session: Session, hive: HiveInfo) -> None:
    if hive.tombstones:
        session.screen.line(
            f"destroyed, their state is kept: {', '.join(hive.tombstones)} (hyperhive restore NAME)"
        )


def _print_shared_warnings(session: Session, details: list[AgentDetail]) -> None:
    """Each warning once, with the agents it is about."""
    about: dict[str, list[str]] = {}
    for detail in details:
        for warning in detail.warnings:
            about.setdefault(warning, []).append(detail.view.name)
    for warning, names in about.items():
        who = "all agents" if len(names) == len(details) and len(names) > 1 else ", ".join(names[:5])
        more = f" and {len(names) - 5} more" if who != "all agents" and len(names) > 5 else ""
        session.screen.line(session.screen.paint(f"! {visible(who)}{more}: {visible(warning)}", "amber"))


def _print_detail(session: Session, detail: AgentDetail) -> None:
    view, screen = detail.view, session.screen
    facts = [
        ("name", view.name),
        ("state", f"{view.state.replace('_', ' ')}: {doing(view, time.time())}"),
        ("unread", str(view.unread)),
        ("model", view.model),
        (
            "account",
            f"{view.account}{_KEYS.get(detail.key or '', '')}{': needs login' if view.needs_login else ''}",
        ),
        ("context", f"{count(view.ctx_tokens)} tokens" if view.ctx_tokens is not None else "unknown"),
        ("isolation", view.isolation),
        ("network", view.network),
        ("session", (detail.session or "none yet") + (" (process is warm)" if detail.warm else "")),
        ("agent CLI", detail.cli_version or "unknown"),
        ("deployed", (view.deployed_sha or "nothing yet")[:12]),
        *(("needs you", need) for need in detail.needs),
        *(("mount", mount) for mount in detail.mounts),
        *((("last error", detail.last_error),) if detail.last_error else ()),
    ]
    screen.lines(f"{label:<10}  {visible(text)}" for label, text in facts)
    warnings = [*([NEEDS_UPDATE] if view.needs_update else []), *detail.warnings]
    screen.lines(screen.paint(f"! {visible(warning)}", "amber") for warning in warnings)
