"""Commands that look back: search, messages, digest, config. One request each."""

import time
from typing import Literal

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import ago, clock, count, money, plural, table
from hyperhive.cli.spans import seconds_of
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import AgentConfigPage, DigestPage, FlowPage, OneMessage, SearchHits
from hyperhive.protocol.screens import FlowRow, SearchHit
from hyperhive.protocol.types import MessageStateName
from hyperhive.terminal import cut, visible

FAR_BACK = 30 * 86_400


def search(
    *query: str,
    limit: int = 20,
    before: int | None = None,
    scope: Literal["messages", "events", "all"] = "all",
    common: Common = DEFAULTS,
) -> int:
    """Find messages, questions, decisions, and what agents said and called, by text; newest first.

    Args:
        query: plain words, all of which must be there; "a phrase" in quotes of its own.
        limit: how many at most.
        before: only what is older than the hit with this cursor (see --json).
        scope: only messages (with questions and decisions), or only what agents said and called.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Search(query=" ".join(query), limit=limit, before=before, scope=scope))

    def render() -> None:
        found = answer.read(SearchHits)
        if not found.hits:
            session.screen.line("nothing was found")
        for hit in found.hits:
            session.screen.line(f"{clock(hit.at)}  {_where(hit)}")
            said = "".join(
                session.screen.paint(visible(piece.text), "bold") if piece.hit else visible(piece.text)
                for piece in hit.snippet
            )
            session.screen.line(f"    {said}")
        if found.behind:
            session.screen.line("the index is still being made: older texts may be missing")

    return session.show(answer, render)


def messages(
    agent: str | None = None,
    other: str | None = None,
    /,
    *,
    id: int | None = None,  # noqa: A002 - as everywhere
    state: MessageStateName | None = None,
    text: str | None = None,
    limit: int = 30,
    before: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """List everybody's messages and what has become of them, newest first.

    Args:
        agent: only those from or to this one.
        other: only those between the two.
        id: this message, whole.
        state: pending, in_flight, acked, held or dead.
        text: only those with these words.
        limit: how many at most.
        before: only those before this number.
        common: flags of every command.
    """
    session = Session(common)
    if id is not None:
        one = session.ask(r.Message(id=id))
        return session.show(one, lambda: _whole(session, one.read(OneMessage).message))
    answer = session.ask(r.Flow(agent=agent, other=other, state=state, q=text, limit=limit, before=before))

    def render() -> None:
        page = answer.read(FlowPage)
        if not page.rows:
            session.screen.line("no such messages")
            return
        now = time.time()
        rows = [
            [str(row.id), ago(row.at, now), row.sender, row.recipient, _stand(row), row.body]
            for row in page.rows
        ]
        header = ("ID", "SENT", "FROM", "TO", "STATE", "TEXT")
        session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({0})))
        if page.more:
            session.screen.line(f"older ones: --before {page.rows[-1].id}")

    return session.show(answer, render)


def digest(*, since: str = "8h", common: Common = DEFAULTS) -> int:
    """Say what has happened: turns, answers, deploys, failures, spending.

    Args:
        since: how long ago it begins: 90m, 8h, 7d; at most 30d.
        common: flags of every command.
    """
    session = Session(common)
    began = int(time.time()) - min(seconds_of(since, "--since"), FAR_BACK)
    answer = session.ask(r.Digest(since=began))

    def render() -> None:
        page = answer.read(DigestPage)
        spent = f"{count(page.tokens)} tokens ({'price unknown' if page.cost is None else money(page.cost)})"
        session.screen.line(
            f"{plural(page.finished, 'turn')} finished, {page.failed} failed; {plural(page.messages, 'message')};"
            f" {plural(page.answered, 'question')} answered; {plural(page.deployed, 'deploy')}; {spent}"
        )
        rows = [[one.name, str(one.turns), str(one.failed), count(one.tokens)] for one in page.agents]
        if rows:
            header = ("AGENT", "TURNS", "FAILED", "TOKENS")
            session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({1, 2, 3})))
        for item in page.items:
            who = f"{visible(item.agent)}: " if item.agent else ""
            line = f"{clock(item.at)}  {item.kind:<8}  {who}{visible(item.text)}"
            session.screen.line(cut(line, session.screen.columns))

    return session.show(answer, render)


def config(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Show an agent's config: what is deployed, proposed and in force, what limits cut, what rollback may go to.

    Args:
        name: the agent.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.AgentConfig(name=name))

    def render() -> None:
        page = answer.read(AgentConfigPage)
        line = session.screen.line
        if page.deployed is None or not page.deployed.sha:
            line("deployed: nothing of its own yet")
        else:
            line(f"deployed: {visible(page.deployed.sha[:12])} (number {page.deployed.id})")
        wanted = page.proposed
        if wanted.sha is not None:
            how = "differs from what is deployed" if wanted.differs else "is what is deployed"
            line(f"proposed: {visible(wanted.sha[:12])} by approval {wanted.approval}: {how}")
        for key, value in page.effective.items():
            line(f"  {visible(key)} = {visible(str(value))}")
        for one in page.cut:
            line(f"cut by your limits: {visible(one)}")
        for one_file in page.deployed.files if page.deployed is not None else ():
            line(f"{visible(one_file.path)} ({one_file.size} bytes)")
            if one_file.text is not None:
                session.screen.body(one_file.text, indent="    ")
        for deployment in page.deployments:
            when = "" if deployment.at is None else f"  {clock(deployment.at)}"
            line(f"rollback --to {deployment.id}  {visible(deployment.sha[:12])}{when}")

    return session.show(answer, render)


def _where(hit: SearchHit) -> str:
    match hit.kind:
        case "event":
            return f"{visible(hit.agent or '?')}, turn {hit.turn or '?'}, event {hit.eid}"
        case "decision":
            return f"decision {hit.id} about {visible(hit.agent or '?')} by {visible(hit.sender or '?')}"
        case _:
            return f"{hit.kind} {hit.id} from {visible(hit.sender or '?')} to {visible(hit.recipient or '?')}"


def _stand(row: FlowRow) -> str:
    return f"{row.state.replace('_', ' ')}" + (f" (turn {row.turn})" if row.turn is not None else "")


def _whole(session: Session, row: FlowRow) -> None:
    head = f"message {row.id} from {visible(row.sender)} to {visible(row.recipient)}, {clock(row.at)}: {_stand(row)}"
    session.screen.line(head + (f": {visible(row.note)}" if row.note else ""))
    session.screen.body(row.body)
