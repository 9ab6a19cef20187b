"""What an agent's page begins with: its state, wherever its harness runs or whether it runs at all; its loose ends."""

from collections.abc import Callable
from typing import Final, Protocol

from hyperhive.broker import Broker
from hyperhive.errors import Closed, Conflict, TimedOut
from hyperhive.handlers.fitting import fitting
from hyperhive.handlers.ports import Harnesses
from hyperhive.names import AgentName, parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import ContainerView

INBOX_ROWS: Final = 30


class Standing(Protocol):
    """What the hive knows of an agent without its harness."""

    def view(self, name: str) -> ContainerView:
        """Its fleet row. Raises NotFound: there is none of this name."""
        ...


def agent_page(
    broker: Broker,
    agents: Standing,
    harnesses: Harnesses,
    seq_of: Callable[[AgentName], int],
    address: Callable[[], str | None],
) -> dict[type[r.Request], Handler]:
    """`seq_of`: the newest number on an agent's stream; `address`: where the operator's pages are, `http://HOST:PORT`."""

    async def state(caller: Caller, request: r.AgentState) -> p.Reply:
        del caller
        name = parse_resident(request.name)
        view = agents.view(name)  # also says whether there is one
        seq = seq_of(name)
        shown = await _snapshot(harnesses, name)
        view = agents.view(name)
        inbox = await broker.recent(name, INBOX_ROWS)
        return p.AgentPage(
            seq=seq,
            label=name,
            dashboard_port=int((address() or ":0").rpartition(":")[2]),
            status=shown.status if shown else "needs_login_idle" if view.needs_login else "online",
            session=shown.session if shown else None,
            inbox=inbox[: fitting(inbox)],
            turn_state=shown.turn_state if shown else view.turn_state,
            turn_state_since=shown.turn_state_since if shown else view.turn_state_since,
            model=shown.model if shown else view.model,
            ctx_usage=shown.ctx_usage if shown else None,
            cost_usage=shown.cost_usage if shown else None,
            running=view.running,
            waiting_reason=view.waiting_reason,
            waiting_until=view.waiting_until,
            cli_version=shown.cli_version if shown else None,
            session_id=shown.session_id if shown else None,
        )

    async def loose_ends(caller: Caller, request: r.AgentLooseEnds) -> p.Reply:
        del caller
        agents.view(parse_resident(request.name))
        ends = await broker.loose_ends.open(request.name)
        return p.LooseEnds(loose_ends=ends[: fitting(ends)])

    return {r.AgentState: state, r.AgentLooseEnds: loose_ends}


async def _snapshot(harnesses: Harnesses, name: AgentName) -> p.AgentSnapshot | None:
    """What its harness says; None where that does not run, or cannot be asked now."""
    try:
        reply = await harnesses.ask(name, line.Snapshot(req=0))
    except (Conflict, Closed, TimedOut):
        return None
    return reply if isinstance(reply, p.AgentSnapshot) else None
