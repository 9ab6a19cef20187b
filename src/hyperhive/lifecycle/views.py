"""What the fleet shows of each agent: assembled from what is handed in, published only where it changed.

The lifecycle says which agent may look different (`touch`); at most 4 views a second and agent go out, the last one
always. Where the facts come from is not known here.
"""

from collections.abc import Callable
from typing import Final

import anyio
import msgspec

from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.errors import InvalidName, NotFound
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyDashboardEvent, ContainerStateChanged
from hyperhive.protocol.types import (
    ContainerStateName,
    ContainerView,
    TransientName,
    TurnStateName,
    WaitingReason,
)

PAUSE_SECONDS: Final = 0.25
_NEEDS_YOU: Final = frozenset({"login", "budget", "operator"})


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What the lifecycle knows of an agent."""

    name: AgentName
    manager: bool
    running: bool
    failed: bool
    held: bool
    isolation: str
    network: str
    transient: TransientName | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What others know of an agent: its harness, the broker, the configuration."""

    turn_state: TurnStateName = "idle"
    turn_state_since: int = 0
    unread: int = 0
    model: str = ""
    account: str = ""
    waiting_reason: WaitingReason | None = None
    waiting_until: int | None = None
    budget_decided: bool = False
    """The operator was asked about the budget that it waits for, and has answered."""
    needs_login: bool = False
    asks_operator: bool = False
    needs_update: bool = False
    pending_reminders: int = 0
    ctx_tokens: int | None = None
    budget_used: float | None = None
    deployed_sha: str | None = None
    page_port: int | None = None


FactsOf = Callable[[AgentName], Facts]


def assemble(life: Life, facts: Facts) -> ContainerView:
    """One agent's view."""
    return ContainerView(
        name=life.name,
        role="manager" if life.manager else "agent",
        running=life.running,
        state=_state(life, facts),
        turn_state=facts.turn_state if life.running else "idle",
        turn_state_since=facts.turn_state_since,
        unread=facts.unread,
        model=facts.model,
        isolation=life.isolation,
        network=life.network,
        account=facts.account,
        waiting_reason=facts.waiting_reason if life.running else None,
        waiting_until=facts.waiting_until if life.running else None,
        budget_used=facts.budget_used,
        deployed_sha=facts.deployed_sha,
        needs_login=facts.needs_login,
        needs_update=facts.needs_update,
        held_by_operator=life.held,
        pending_reminders=facts.pending_reminders,
        ctx_tokens=facts.ctx_tokens,
        transient=life.transient,
        page_port=facts.page_port,
    )


def _state(life: Life, facts: Facts) -> ContainerStateName:
    if not life.running:
        return "failed" if life.failed else "stopped"
    waits = facts.waiting_reason in _NEEDS_YOU and not (
        facts.waiting_reason == "budget" and facts.budget_decided
    )
    if waits or facts.needs_login or facts.asks_operator:
        return "needs_you"
    # One that waits out a limit or a pause has work in hand, and goes on with it by itself.
    return "idle" if facts.turn_state == "idle" else "working"


class Views:
    """The views of all agents, and who of them may have changed. Run `run` once, in the background."""

    def __init__(
        self, look: Callable[[AgentName], ContainerView], bus: Bus[AnyDashboardEvent], clock: Clock
    ) -> None:
        self._look = look
        self._bus = bus
        self._clock = clock
        self._shown: dict[AgentName, ContainerView] = {}
        self._published: dict[AgentName, float] = {}
        self._touched: set[AgentName] = set()
        self._wake = anyio.Event()

    def touch(self, name: AgentName) -> None:
        """This agent may look different. Costs next to nothing; any number of times."""
        self._touched.add(name)
        self._wake.set()

    def forget(self, name: AgentName) -> None:
        """This agent is gone: nothing of it is published any more."""
        self._touched.discard(name)
        self._shown.pop(name, None)
        self._published.pop(name, None)

    async def run(self) -> None:
        """Publishes what changed, for ever."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            pause = self._publish_due()
            if pause is not None:
                self._wake.set()
                await self._clock.sleep(pause)

    def _publish_due(self) -> float | None:
        """Publishes whose pause is over; gives the seconds until the next one's is, or None."""
        now = self._clock.monotonic()
        waits = []
        for name in list(self._touched):
            wait = self._published.get(name, -PAUSE_SECONDS) + PAUSE_SECONDS - now
            if wait > 0:
                waits.append(wait)
                continue
            self._touched.discard(name)
            self._publish(name, now)
        return min(waits, default=None)

    def _publish(self, name: AgentName, now: float) -> None:
        try:
            view = self._look(name)
        except (NotFound, InvalidName):
            # Destroyed since it was touched; or the operator, who was asked something.
            return
        if self._shown.get(name) != view:
            self._shown[name] = view
            self._published[name] = now
            self._bus.publish(ContainerStateChanged(container=view))
