"""One agent's turns: commands that go to its harness."""

from collections.abc import Callable
from typing import TypeVar

from hyperhive.errors import BadRequest
from hyperhive.handlers.endings import with_endings
from hyperhive.handlers.ports import Harnesses
from hyperhive.names import parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller

T = TypeVar("T", bound=r.Request)


def turns(harnesses: Harnesses) -> dict[type[r.Request], Handler]:
    """Commands to an agent's harness, and what it keeps of its turns."""

    def forward(command: Callable[[T], line.AnyHarnessCommand]) -> Handler:
        async def handler(caller: Caller, request: T) -> p.Reply:
            del caller
            name = getattr(request, "name", None)
            if not isinstance(name, str):
                raise BadRequest("an agent's name is missing")
            return await harnesses.ask(parse_resident(name), command(request))

        return handler

    def events(request: r.Events) -> line.History:
        return line.History(req=0, before=request.before, limit=request.limit, kind=request.kind, q=request.q)

    def login_code(request: r.LoginCode) -> line.LineLoginCode:
        return line.LineLoginCode(req=0, code=request.code)

    def turn_rows(request: r.Turns) -> line.TurnHistory:
        return line.TurnHistory(
            req=0,
            limit=request.limit,
            failed=request.failed,
            before=request.before,
            since=request.since,
            until=request.until,
            turn=request.turn,
        )

    def stats(request: r.Stats) -> line.LineStats:
        return line.LineStats(req=0, window=request.window)

    def model(request: r.Model) -> line.LineModel:
        return line.LineModel(req=0, model=request.model)

    return {
        r.Events: forward(events),
        r.Turns: with_endings(forward(turn_rows), harnesses),
        r.Stats: forward(stats),
        r.Cancel: forward(lambda _: line.LineCancel(req=0)),
        r.Compact: forward(lambda _: line.LineCompact(req=0)),
        r.Model: forward(model),
        r.NewSession: forward(lambda _: line.LineNewSession(req=0)),
        r.LoginStart: forward(lambda _: line.LineLoginStart(req=0)),
        r.LoginCode: forward(login_code),
        r.LoginCancel: forward(lambda _: line.LineLoginCancel(req=0)),
    }
