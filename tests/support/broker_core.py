"""The core as one agent's harness sees it, on a real Broker: what a hive does, without a hive round it."""

from collections.abc import Awaitable, Callable

from hyperhive.broker import Broker
from hyperhive.errors import HiveError
from hyperhive.protocol.replies import (
    Admission,
    Charged,
    LooseEnds,
    Messages,
    ModelStanding,
    Ok,
    RemindersPending,
    Reply,
    Unread,
)
from hyperhive.protocol.requests import (
    AckTurn,
    AskTool,
    Charge,
    CountPendingReminders,
    GetLooseEnds,
    MayTurn,
    ModelAccess,
    Recv,
    Request,
    RequeueInflight,
    Status,
    WithdrawTools,
)


class BrokerCore:
    """`Core` of one agent, without budgets but for what `admit` and `charge` are set to.

    `asked` keeps what becomes of messages; `fault` is raised while it is set.
    """

    def __init__(self, broker: Broker, agent: str) -> None:
        self.broker = broker
        self.agent = agent
        self.asked: list[Request] = []
        self.fault: Callable[[Request], HiveError | None] = lambda _: None
        self.admit: Callable[[MayTurn], Awaitable[Admission]] = _everybody
        self.charge: Callable[[Charge], Charged] = lambda _: Charged()

    async def ask(self, request: Request) -> Reply:
        if (error := self.fault(request)) is not None:
            raise error
        if isinstance(request, AckTurn | RequeueInflight):
            self.asked.append(request)
        match request:
            case Recv(wait_seconds=wait, max=limit, min_urgency=urgency):
                lease = await self.broker.take(
                    self.agent, max=limit, wait_seconds=wait, min_urgency=urgency or "next_turn"
                )
                return Messages(messages=lease.deliveries)
            case AckTurn(ids=ids, taken=taken, turn=turn):
                return Ok(count=await self.broker.ack_turn(self.agent, ids, taken=taken, turn=turn))
            case RequeueInflight(ids=ids, dead=str(reason)):
                ids = ids if ids is not None else self.broker.in_flight_now(self.agent)
                return Ok(count=await self.broker.dead_letter(self.agent, ids, reason))
            case RequeueInflight(ids=ids, blame=blame):
                return Ok(count=await self.broker.requeue_inflight(self.agent, ids, blame=blame))
            case Status():
                return Unread(unread=self.broker.pending_now(self.agent))
            case ModelAccess():
                return ModelStanding()
            case MayTurn():
                return await self.admit(request)
            case Charge():
                return self.charge(request)
            case AskTool(call_id=call, tool=tool, input=given, wait_seconds=wait):
                return await self.broker.tools.ask(self.agent, call, tool, given, wait)
            case WithdrawTools(calls=calls):
                return Ok(count=await self.broker.tools.withdraw(self.agent, calls))
            case GetLooseEnds():
                return LooseEnds(loose_ends=[])
            case CountPendingReminders():
                return RemindersPending(count=0)
            case _:
                raise AssertionError(f"a loop does not ask {request!r}")

    async def tool_recv(self, limit: int = 1) -> list[int]:
        """What a `recv` tool call inside a turn does; the ids it took."""
        lease = await self.broker.take(self.agent, max=limit, wait_seconds=0)
        ids = [one.id for one in lease.deliveries]
        self.broker.mark_taken(self.agent, ids)
        return ids


async def _everybody(_: MayTurn) -> Admission:
    return Admission()
