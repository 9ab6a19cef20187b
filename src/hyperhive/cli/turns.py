"""Commands about one agent's turns: cancel, compact, model, new-session, turns, stats. One request each."""

import time
from typing import Literal

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import ago, count, money, plural, table
from hyperhive.cli.spans import moment
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Ok, StatsPage, TurnRows
from hyperhive.protocol.types import TurnRow
from hyperhive.terminal import visible


def cancel(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Interrupt an agent's running turn. Its messages become dead letters with the reason `cancelled`.

    Args:
        name: the agent.
        common: flags of every command.
    """
    return _steer(common, r.Cancel(name=name), "the turn is cancelled; its messages: hyperhive dead")


def compact(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Compact an agent's session in the background; refused while a turn runs.

    Args:
        name: the agent.
        common: flags of every command.
    """
    return _steer(common, r.Compact(name=name), f"{name} compacts its session")


def model(name: str, model: str, /, *, common: Common = DEFAULTS) -> int:
    """Change an agent's model, from its next turn on, for good.

    Args:
        name: the agent.
        model: as the agent CLI names it; a wrong one shows as a failed turn.
        common: flags of every command.
    """
    return _steer(common, r.Model(name=name, model=model), f"{name} uses {model} from its next turn on")


def new_session(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Let an agent's next turn start a new session: it forgets the conversation, not its files.

    Args:
        name: the agent.
        common: flags of every command.
    """
    return _steer(common, r.NewSession(name=name), f"{name} starts a new session with its next turn")


def turns(
    name: str,
    /,
    *,
    limit: int = 20,
    failed: bool = False,
    turn: int | None = None,
    since: str | None = None,
    until: str | None = None,
    before: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """List an agent's turns, newest first.

    Args:
        name: the agent.
        limit: how many at most.
        failed: only turns that did not end well, the newest with why.
        turn: only this one.
        since: only those that ended so long ago or later: 90m, 8h, 7d.
        until: only those that ended so long ago or earlier.
        before: only those before this turn.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(
        r.Turns(
            name=name,
            limit=limit,
            failed=failed,
            turn=turn,
            since=moment(since, "--since"),
            until=moment(until, "--until"),
            before=before,
        )
    )

    def render() -> None:
        rows = answer.read(TurnRows).turns
        if not rows:
            session.screen.line("no turns yet" if not failed else "no turn failed")
            return
        now = time.time()
        header = ("ENDED", "RESULT", "TOOK", "FROM", "TOOLS", "IN", "OUT", "COST", "CAUSE", "MODEL")
        cells = [_turn_cells(row, now) for row in rows]
        session.screen.lines(table(header, cells, session.screen.columns, right=frozenset({2, 4, 5, 6, 7})))
        for row in rows:
            _ending(session, row)

    return session.show(answer, render)


def stats(name: str, /, *, window: Literal["24h", "7d", "30d"] = "24h", common: Common = DEFAULTS) -> int:
    """Show an agent's turn statistics.

    Args:
        name: the agent.
        window: over how long.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Stats(name=name, window=window))

    def render() -> None:
        page = answer.read(StatsPage)
        rows = [[key.replace("_", " "), _figure(value)] for key, value in page.stats.items()]
        session.screen.lines(table(("", ""), rows, session.screen.columns))

    return session.show(answer, render)


def _ending(session: Session, row: TurnRow) -> None:
    """Why a turn ended badly, where that was asked for and is known."""
    if row.last_tool is None and row.error is None and row.stderr is None:
        return
    session.screen.line(f"turn {row.turn}:")
    for what, text in (("last tool call", row.last_tool), ("error", row.error)):
        if text is not None:
            session.screen.line(f"  {what}: {visible(text)}")
    if row.stderr is not None:
        session.screen.body(row.stderr, indent="    ")


def _steer(common: Common, request: r.Request, done: str) -> int:
    session = Session(common)
    answer = session.ask(request)
    return session.show(answer, lambda: session.screen.line(visible(answer.read(Ok).note or done)))


def _turn_cells(row: TurnRow, now: float) -> list[str]:
    tokens_in = row.input_tokens + row.cache_read_input_tokens + row.cache_creation_input_tokens
    return [
        ago(row.ended_at, now), row.result_kind.replace("_", " "), f"{row.duration_ms / 1000:.1f}s", row.wake_from,
        str(row.tool_call_count), count(tokens_in), count(row.output_tokens), money(row.cost), _cause(row), row.model,
    ]  # fmt: skip


def _cause(row: TurnRow) -> str:
    """The message that the turn was for, and the one that all began with."""
    if row.message is None:
        return "-"
    if row.chain is None or row.chain == row.message:
        return f"{row.message}"
    return f"{row.message} < {row.chain}" + (f" by {row.root}" if row.root else "")


def _figure(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_figure(part)}" for key, part in value.items()) or "-"
    if isinstance(value, list):
        if all(isinstance(part, dict) for part in value):
            return plural(len(value), "entry").replace("entrys", "entries")
        return ", ".join(_figure(part) for part in value) or "-"
    return str(value)
