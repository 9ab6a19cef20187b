"""Commands about approvals: what waits, one with its diff, the operator's word, what was decided, and going back.

Agents' text (paths, diffs, reasons) is made visible on its way out. What is approved is always named by commit and
diff: on a terminal those that were shown just before, elsewhere those that the caller names.
"""

import sys
import time
from typing import Annotated

from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.origin import origin_lines
from hyperhive.cli.render import ago, plural, table
from hyperhive.errors import BadRequest, Conflict
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import ApprovalDiff, Approvals, AuditRows, Ok
from hyperhive.protocol.types import Approval
from hyperhive.terminal import visible, visible_lines

Flag = Annotated[bool, Parameter(negative="")]

_STAGE_COLOURS = {"deployed": "green", "failed": "red", "denied": "amber", "proposal": "blue"}


def pending(*, common: Common = DEFAULTS) -> int:
    """List what waits for your approval, oldest first."""
    session = Session(common)
    answer = session.ask(r.Pending())

    def render() -> None:
        waiting = answer.read(Approvals).approvals
        if not waiting:
            session.screen.line("nothing waits for your approval")
            return
        now = time.time()
        rows = [
            [
                str(one.id),
                _what(one),
                one.commit_ref[:12] or "-",
                one.requested_by or "-",
                ago(one.requested_at, now),
            ]
            for one in waiting
        ]
        header = ("ID", "WHAT", "COMMIT", "ASKED FOR BY", "WHEN")
        session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({0})))
        session.screen.line(f"look at one, and decide: hyperhive approve {waiting[0].id}")

    return session.show(answer, render)


def show(id: int, /, *, common: Common = DEFAULTS) -> int:  # noqa: A002 (shown as ID in the help)
    """Show one approval with its whole diff.

    Args:
        id: the approval's number.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Show(id=id), timeout=None)
    return session.show(answer, lambda: _print(session, answer.read(ApprovalDiff)))


def approve(
    id: int,  # noqa: A002
    /,
    *,
    sha: str | None = None,
    diff: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Approve exactly what was shown: on a terminal it is shown now, elsewhere --sha and --diff name it.

    Args:
        id: the approval's number.
        sha: the commit that you saw.
        diff: the hash of the diff that you saw.
        common: flags of every command.
    """
    session = Session(common)
    asks = sha is None and diff is None and not common.as_json and session.screen.tty and sys.stdin.isatty()
    if asks:
        shown = session.ask(r.Show(id=id), timeout=None).read(ApprovalDiff)
        _print(session, shown)
        if shown.approval.status != "pending":
            raise Conflict(f"approval {id} is {shown.approval.stage} already")
        if not _agrees(session, shown):
            session.screen.line("nothing was decided")
            return 1
        if shown.approval.kind == "apply_commit":
            sha, diff = shown.approval.commit_ref, shown.approval.diff_sha256
    answer = session.ask(r.Approve(id=id, sha=sha, diff_sha256=diff), timeout=None)
    return session.show(
        answer,
        lambda: session.screen.line(f"approval {id} is approved, and being carried out: hyperhive show {id}"),
    )


def deny(id: int, /, *, note: str | None = None, common: Common = DEFAULTS) -> int:  # noqa: A002
    """Deny an approval; whoever asked for it is told.

    Args:
        id: the approval's number.
        note: why.
        common: flags of every command.
    """
    return _act(common, r.Deny(id=id, note=note), f"approval {id} is denied")


def audit(
    agent: str | None = None, /, *, limit: int = 100, before: int | None = None, common: Common = DEFAULTS
) -> int:
    """List the decisions, newest first: who, by which way, on which commit, and why. --json exports them.

    Args:
        agent: only those about this one.
        limit: how many at most.
        before: only those before this number.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Audit(limit=limit, before=before, agent=agent))

    def render() -> None:
        entries = answer.read(AuditRows).entries
        if not entries:
            session.screen.line("nothing was decided yet")
            return
        for one in entries:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
            what = f"{one.action} by {one.who} ({one.channel})"
            commit = f"  {visible(one.sha[:12])}" if one.sha else ""
            session.screen.line(
                f"{one.id:>5}  {when}  approval {one.approval} of {visible(one.agent)}: {visible(what)}{commit}"
            )
            if one.why:
                session.screen.body(one.why, indent=" " * 7)

    return session.show(answer, render)


def request_spawn(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Queue a new agent for approval.

    Args:
        name: the agent.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.RequestSpawn(name=name), timeout=None)
    number = answer.read(Ok).id
    return session.show(
        answer, lambda: session.screen.line(f"approval {number} waits: hyperhive approve {number}")
    )


def rebuild(name: str, /, *, now: Flag = False, common: Common = DEFAULTS) -> int:
    """Put right whatever drifted on the host, and start the agent anew on what is deployed.

    Args:
        name: the agent.
        now: end the running turn at once.
        common: flags of every command.
    """
    return _act(common, r.Rebuild(name=name, now=now), f"{name} is rebuilt, and well")


def update(
    name: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    inputs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    now: Flag = False,
    common: Common = DEFAULTS,
) -> int:
    """Build an agent's approved configuration anew, by the hive's own revision, and start the agent on it.

    Args:
        name: the agent.
        every: all that another revision built; each at the end of its turn.
        inputs: with Nix: pin what is newest of what all agents share (hyperhive, nixpkgs); starts nobody anew.
        now: end the running turn at once.
        common: flags of every command.
    """
    if inputs:
        if name is not None or every or now:
            raise BadRequest("--inputs goes alone: `hyperhive update --all` then builds the agents anew")
        return _act(common, r.MetaUpdate(inputs=list(inputs)), "done")
    if (name is None) is not every or (every and now):
        raise BadRequest("update takes the name of an agent (and --now), --all, or --inputs")
    if name is not None:
        return _act(common, r.Update(name=name, now=now), f"{name} is built anew, and well")
    return _act(common, r.UpdateAll(), "done")


def rollback(name: str, to: int, /, *, common: Common = DEFAULTS) -> int:
    """Deploy what was deployed under a number again, as a new approval that is yours.

    Args:
        name: the agent.
        to: that number; 0 is what it began with.
        common: flags of every command.
    """
    session = Session(common)
    if to < 0:
        raise BadRequest("a rollback goes to the number of a deployment, or to 0")
    answer = session.ask(r.Rollback(name=name, to=to), timeout=None)
    number = answer.read(Ok).id
    return session.show(
        answer,
        lambda: session.screen.line(
            f"{visible(name)} goes back to {to}, as approval {number}: hyperhive show {number}"
        ),
    )


# --- printing -------------------------------------------------------------------------------------------------------


def _act(common: Common, request: r.Request, done: str) -> int:
    session = Session(common)
    answer = session.ask(request, timeout=None)
    return session.show(answer, lambda: session.screen.line(visible(answer.read(Ok).note or done)))


def _what(one: Approval) -> str:
    return f"a new agent {one.agent}" if one.kind == "spawn" else f"a change of {one.agent}"


def _print(session: Session, shown: ApprovalDiff) -> None:
    one, screen = shown.approval, session.screen
    stage = one.stage or one.status
    who = f", asked for by {one.requested_by}" if one.requested_by else ""
    head = f"approval {one.id}: {_what(one)}{who} {ago(one.requested_at, time.time())}"
    screen.line(f"{visible(head)}: {screen.paint(stage, _STAGE_COLOURS.get(stage, 'dim'))}")
    facts = (
        ("commit", one.commit_ref),
        ("base", one.base_ref),
        ("diff", one.diff_sha256),
        ("decided", f"by {one.resolved_by} {ago(one.resolved_at, time.time())}" if one.resolved_at else None),
    )
    screen.lines(f"{label:<8}{visible(text)}" for label, text in facts if text)
    if one.note:
        screen.body(one.note, indent="        ")
    screen.lines(origin_lines(session, r.Origin(approval=one.id)))
    if one.kind == "apply_commit":
        screen.line()
        screen.lines(_coloured(session, line) for line in visible_lines(shown.diff) or ["(no change)"])
        screen.line()
    screen.lines(screen.paint(f"! {visible(warning)}", "amber") for warning in shown.warnings)


def _coloured(session: Session, line: str) -> str:
    paint = session.screen.paint
    if line.startswith(("+++", "---", "diff ", "index ")):
        return paint(line, "bold")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return paint(line, colours[line[0]]) if line[:1] in colours else line


def _agrees(session: Session, shown: ApprovalDiff) -> bool:
    """Asks on the terminal. Where something does not show, a careless `y` is not enough."""
    number = str(shown.approval.id)
    hidden = [warning for warning in shown.warnings if " U+" in warning]
    if hidden:
        question = (
            f"{plural(len(hidden), 'place')} above do not show as they are. To approve, type {number}: "
        )
    else:
        question = "Approve exactly this? [y/N] "
    session.screen.raw(question)
    session.screen.flush()
    said = sys.stdin.readline().strip().lower()
    return said == number if hidden else said in {"y", "yes"}
