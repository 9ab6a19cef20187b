"""The request table: which part answers what, and how its answer becomes a reply.

Each handler is a few lines: take the request apart, call one part, wrap what it gave. They decide nothing (policy does,
before them), keep nothing, and never learn a role. What this version does not serve has no row here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from hyperhive.broker import Broker
from hyperhive.errors import BadRequest
from hyperhive.names import OPERATOR, AgentName, parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import CALL_ID, Answer, Handler
from hyperhive.protocol.policy import TOOLS, Caller
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES, Mount

T = TypeVar("T", bound=r.Request)

_REPLY_ROOM = REPLY_LINE_MAX_BYTES - 1024
"""What a reply's own frame may take of its line is less than this difference."""


class Agents(Protocol):
    """What the handlers need of the lifecycle. Actions return when they are done, and raise `HiveError` if not."""

    def names(self) -> Sequence[str]: ...

    async def spawn(
        self, name: str, mounts: Sequence[Mount] | None = None, *, by: AgentName = OPERATOR
    ) -> None: ...

    async def start(self, name: str, *, by: AgentName = OPERATOR) -> None: ...

    async def stop(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None: ...

    async def restart(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None: ...

    async def destroy(
        self, name: str, *, purge: bool = False, now: bool = False, by: AgentName = OPERATOR
    ) -> None: ...

    async def restore(self, name: str) -> None: ...


class Harnesses(Protocol):
    """The agents' harnesses, wherever they run."""

    async def ask(self, name: AgentName, command: line.AnyHarnessCommand) -> p.Reply:
        """Raises NotFound: no agent of this name. Conflict: it does not run, and the command needs that."""
        ...

    def caution(self, name: AgentName) -> str | None:
        """What must be said to whoever stops this agent now."""
        ...


class Desk(Protocol):
    """What the hive itself answers."""

    async def status(self, name: AgentName | None) -> p.HiveStatus: ...

    def identity(self, caller: Caller) -> p.Identity: ...

    async def logs(self, name: AgentName | None, lines: int) -> p.LogLines: ...

    async def account(self, request: r.Account) -> p.Accounts: ...

    async def reload(self) -> p.Ok: ...

    def hello(self, caller: Caller, request: r.Hello) -> p.Ok: ...


def request_table(
    broker: Broker, agents: Agents, harnesses: Harnesses, desk: Desk
) -> dict[type[r.Request], Handler]:
    """A handler for every request that this hive serves."""
    return {
        **_mail(broker, desk),
        **_harness(broker, desk),
        **_operators_mail(broker),
        **_lives(agents, harnesses),
        **_turns(harnesses),
        **_hive(desk),
    }


# --- mail -------------------------------------------------------------------------------------------------------------


def _mail(broker: Broker, desk: Desk) -> dict[type[r.Request], Handler]:
    async def send(caller: Caller, request: r.Send) -> p.Reply:
        receipt = await broker.send(
            caller.name,
            request.to,
            request.body,
            dedupe_key=request.dedupe_key,
            urgency=request.urgency,
            call_id=CALL_ID.get(),
        )
        return p.Ok(id=receipt.id, duplicate=receipt.duplicate, held=receipt.held)

    async def recv(caller: Caller, request: r.Recv) -> Answer:
        # Durable: what a model was shown comes again with its mark, whatever is killed in the next moment.
        lease = await broker.take(
            caller.name, request.max, request.wait_seconds, request.min_urgency, durable=True
        )
        rows = [msgspec.structs.replace(delivery, recipient="") for delivery in lease.deliveries]
        lease.keep(_fitting(rows))
        ids = [delivery.id for delivery in lease.deliveries]

        def written() -> None:
            # What a harness pops is done when its turn's result says so; what a tool call took, with the turn itself.
            if caller.channel == TOOLS:
                broker.mark_taken(caller.name, ids)

        return Answer(reply=p.Messages(messages=rows[: len(ids)]), written=written, undo=lease.undo)

    async def status(caller: Caller, request: r.Status) -> p.Reply:
        if caller.any:
            return await desk.status(None if request.name is None else parse_resident(request.name))
        return p.Unread(unread=broker.pending_now(caller.name))

    async def recent(caller: Caller, request: r.Recent) -> p.Reply:
        rows = await broker.recent(caller.name, request.limit, max_chars=_REPLY_ROOM)
        return p.RecentRows(rows=rows[: _fitting(rows)])

    return {r.Send: send, r.Recv: recv, r.Status: status, r.Recent: recent}


def _harness(broker: Broker, desk: Desk) -> dict[type[r.Request], Handler]:
    async def ack_turn(caller: Caller, request: r.AckTurn) -> p.Reply:
        count = await broker.ack_turn(caller.name, request.ids, taken=request.taken, turn=request.turn)
        return p.Ok(count=count)

    async def requeue_inflight(caller: Caller, request: r.RequeueInflight) -> p.Reply:
        if request.dead is not None:
            ids = request.ids if request.ids is not None else broker.in_flight_now(caller.name)
            return p.Ok(count=await broker.dead_letter(caller.name, ids, request.dead))
        count = await broker.requeue_inflight(
            caller.name, request.ids, blame=request.blame, call_id=request.call_id
        )
        return p.Ok(count=count)

    async def hello(caller: Caller, request: r.Hello) -> p.Reply:
        reply = desk.hello(caller, request)
        if request.holding is not None:
            # The rest of what was handed out was lost on its way to the harness, but for what tool calls took: their
            # results arrived. What it holds, a crash may have forgotten to have handed out.
            lost = (
                set(broker.in_flight_now(caller.name)) - set(request.holding) - broker.taken_now(caller.name)
            )
            await broker.requeue_inflight(caller.name, sorted(lost))
            await broker.retake(caller.name, request.holding)
        return reply

    return {r.AckTurn: ack_turn, r.RequeueInflight: requeue_inflight, r.Hello: hello}


def _fitting(rows: Sequence[msgspec.Struct]) -> int:
    """How many of these rows fit one reply line: at least one. Looks at no more of them than it needs."""
    room = _REPLY_ROOM
    for count, row in enumerate(rows):
        room -= len(encode(row)) + 1
        if room < 0:
            return max(count, 1)
    return len(rows)


def _operators_mail(broker: Broker) -> dict[type[r.Request], Handler]:
    async def inbox(caller: Caller, request: r.Inbox) -> p.Reply:
        del caller
        rows = await broker.inbox(request.limit, include_done=request.all)
        return p.InboxRows(messages=rows[: _fitting(rows)])

    async def ack(caller: Caller, request: r.Ack) -> p.Reply:
        del caller
        return p.Ok(count=await broker.mark_done(request.ids))

    async def dead(caller: Caller, request: r.Dead) -> p.Reply:
        del caller
        letters = await broker.dead(request.limit)
        return p.DeadLetters(dead=letters[: _fitting(letters)])

    async def requeue(caller: Caller, request: r.Requeue) -> p.Reply:
        del caller
        await broker.requeue_dead(request.id)
        return p.Ok(id=request.id)

    async def drop(caller: Caller, request: r.Drop) -> p.Reply:
        del caller
        await broker.drop_dead(request.id)
        return p.Ok(id=request.id)

    return {r.Inbox: inbox, r.Ack: ack, r.Dead: dead, r.Requeue: requeue, r.Drop: drop}


# --- lifecycle --------------------------------------------------------------------------------------------------------


def _lives(agents: Agents, harnesses: Harnesses) -> dict[type[r.Request], Handler]:
    def action(run: Callable[[Caller, T], Awaitable[None]]) -> Handler:
        async def handler(caller: Caller, request: T) -> p.Reply:
            await run(caller, request)
            return p.Ok()

        return handler

    async def names(caller: Caller, request: r.List) -> p.Reply:
        del caller, request
        return p.Agents(agents=list(agents.names()))

    def spawn(caller: Caller, request: r.Spawn) -> Awaitable[None]:
        return agents.spawn(request.name, request.mounts, by=caller.name)

    def start(caller: Caller, request: r.Start) -> Awaitable[None]:
        return agents.start(request.name, by=caller.name)

    async def kill(caller: Caller, request: r.Kill) -> p.Reply:
        caution = harnesses.caution(AgentName(request.name))
        await agents.stop(request.name, now=request.now, by=caller.name)
        return p.Ok(note=caution)

    def restart(caller: Caller, request: r.Restart) -> Awaitable[None]:
        return agents.restart(request.name, now=request.now, by=caller.name)

    def destroy(caller: Caller, request: r.Destroy) -> Awaitable[None]:
        return agents.destroy(request.name, purge=request.purge, now=request.now, by=caller.name)

    def restore(caller: Caller, request: r.Restore) -> Awaitable[None]:
        del caller
        return agents.restore(request.name)

    return {
        r.List: names,
        r.Spawn: action(spawn),
        r.Start: action(start),
        r.Kill: kill,
        r.Restart: action(restart),
        r.Destroy: action(destroy),
        r.Restore: action(restore),
    }


# --- one agent's turns ------------------------------------------------------------------------------------------------


def _turns(harnesses: Harnesses) -> dict[type[r.Request], Handler]:
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

    def turns(request: r.Turns) -> line.TurnHistory:
        return line.TurnHistory(req=0, limit=request.limit)

    def stats(request: r.Stats) -> line.LineStats:
        return line.LineStats(req=0, window=request.window)

    def model(request: r.Model) -> line.LineModel:
        return line.LineModel(req=0, model=request.model)

    return {
        r.Events: forward(events),
        r.Turns: forward(turns),
        r.Stats: forward(stats),
        r.Cancel: forward(lambda _: line.LineCancel(req=0)),
        r.Compact: forward(lambda _: line.LineCompact(req=0)),
        r.Model: forward(model),
        r.NewSession: forward(lambda _: line.LineNewSession(req=0)),
        r.LoginStart: forward(lambda _: line.LineLoginStart(req=0)),
        r.LoginCode: forward(login_code),
        r.LoginCancel: forward(lambda _: line.LineLoginCancel(req=0)),
    }


# --- the hive itself --------------------------------------------------------------------------------------------------


def _hive(desk: Desk) -> dict[type[r.Request], Handler]:
    async def whoami(caller: Caller, request: r.Whoami) -> p.Reply:
        del request
        return desk.identity(caller)

    async def logs(caller: Caller, request: r.Logs) -> p.Reply:
        del caller
        return await desk.logs(None if request.name is None else parse_resident(request.name), request.lines)

    async def account(caller: Caller, request: r.Account) -> p.Reply:
        del caller
        return await desk.account(request)

    async def reload(caller: Caller, request: r.Reload) -> p.Reply:
        del caller, request
        return await desk.reload()

    return {
        r.Whoami: whoami,
        r.Logs: logs,
        r.Account: account,
        r.Reload: reload,
    }
