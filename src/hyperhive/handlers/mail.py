"""Mail: an agent's, its harness's, and the operator's."""

import msgspec

from hyperhive.broker import Broker
from hyperhive.errors import Forbidden, NotFound
from hyperhive.handlers.fitting import REPLY_ROOM, fitting
from hyperhive.handlers.ports import Desk
from hyperhive.names import parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID, Answer, Handler
from hyperhive.protocol.policy import BOX, TOOLS, Caller


class Strays:
    """What programs in boxes took by a tool's `recv` while no turn ran: no turn's ack covers it.

    It goes back, marked, when the next turn is settled. In memory: a restart requeues what is in flight anyhow.
    """

    def __init__(self) -> None:
        self._ids: dict[str, set[int]] = {}

    def add(self, name: str, ids: list[int]) -> None:
        """These were taken so."""
        self._ids.setdefault(name, set()).update(ids)

    def of(self, name: str) -> set[int]:
        """What this agent's were; they are forgotten."""
        return self._ids.pop(name, set())


def mail(broker: Broker, desk: Desk, strays: Strays) -> dict[type[r.Request], Handler]:
    """Sending, taking and looking."""

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
        lease.keep(fitting(rows))
        ids = [delivery.id for delivery in lease.deliveries]

        def written() -> None:
            # What a harness pops is done when its turn's result says so; what a tool call took, with the turn itself.
            if caller.channel == TOOLS or (caller.channel == BOX and desk.in_turn(caller.name)):
                broker.mark_taken(caller.name, ids)
            elif caller.channel == BOX:
                strays.add(caller.name, ids)

        return Answer(reply=p.Messages(messages=rows[: len(ids)]), written=written, undo=lease.undo)

    async def status(caller: Caller, request: r.Status) -> p.Reply:
        if caller.any:
            return await desk.status(None if request.name is None else parse_resident(request.name))
        return p.Unread(unread=broker.pending_now(caller.name))

    async def recent(caller: Caller, request: r.Recent) -> p.Reply:
        rows = await broker.recent(caller.name, request.limit, max_chars=REPLY_ROOM)
        return p.RecentRows(rows=rows[: fitting(rows)])

    return {r.Send: send, r.Recv: recv, r.Status: status, r.Recent: recent}


def harness(broker: Broker, desk: Desk, strays: Strays) -> dict[type[r.Request], Handler]:
    """What a harness says of the mail that it was handed."""

    async def ack_turn(caller: Caller, request: r.AckTurn) -> p.Reply:
        count = await broker.ack_turn(caller.name, request.ids, taken=request.taken, turn=request.turn)
        if back := strays.of(caller.name):
            await broker.requeue_inflight(caller.name, sorted(back))
        return p.Ok(count=count)

    async def requeue_inflight(caller: Caller, request: r.RequeueInflight) -> p.Reply:
        if request.dead is not None:
            if back := strays.of(caller.name):
                await broker.requeue_inflight(caller.name, sorted(back))
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


def operators_mail(broker: Broker) -> dict[type[r.Request], Handler]:
    """The operator's inbox, and dead letters."""

    async def inbox(caller: Caller, request: r.Inbox) -> p.Reply:
        del caller
        rows = await broker.inbox(request.limit, include_done=request.all)
        return p.InboxRows(messages=rows[: fitting(rows)])

    async def ack(caller: Caller, request: r.Ack) -> p.Reply:
        del caller
        return p.Ok(count=await broker.mark_done(request.ids))

    async def dead(caller: Caller, request: r.Dead) -> p.Reply:
        del caller
        letters = await broker.dead(request.limit)
        return p.DeadLetters(dead=letters[: fitting(letters)])

    async def requeue(caller: Caller, request: r.Requeue) -> p.Reply:
        del caller
        await broker.requeue_dead(request.id)
        return p.Ok(id=request.id)

    async def drop(caller: Caller, request: r.Drop) -> p.Reply:
        del caller
        try:
            await broker.drop_dead(request.id)
        except NotFound as gone:
            try:
                await broker.take_back(request.id)
            except Forbidden:  # an agent's letter: it is dead no longer
                raise gone from None
        return p.Ok(id=request.id)

    return {r.Inbox: inbox, r.Ack: ack, r.Dead: dead, r.Requeue: requeue, r.Drop: drop}
