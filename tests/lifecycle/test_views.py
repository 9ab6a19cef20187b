"""Views: what the fleet shows, and how often it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from hyperhive.bus import Bus
from hyperhive.errors import NotFound
from hyperhive.lifecycle.views import Facts, Life, Views, assemble
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyDashboardEvent, ContainerStateChanged
from hyperhive.protocol.types import ContainerView
from hyperhive.testing import FakeClock

ALICE, BOB = AgentName("alice"), AgentName("bob")


def life(*, running: bool = True, failed: bool = False) -> Life:
    return Life(
        name=ALICE,
        manager=False,
        running=running,
        failed=failed,
        held=False,
        isolation="bwrap",
        network="host",
    )


@pytest.mark.parametrize(
    ("life", "facts", "state"),
    [
        (life(), Facts(), "idle"),
        (life(), Facts(turn_state="thinking"), "working"),
        (life(), Facts(turn_state="compacting"), "working"),
        (life(), Facts(turn_state="queued"), "working"),
        (life(), Facts(turn_state="waiting", waiting_reason="limited"), "working"),
        (life(), Facts(turn_state="waiting", waiting_reason="backoff"), "working"),
        (life(), Facts(turn_state="waiting", waiting_reason="login"), "needs_you"),
        (life(), Facts(turn_state="waiting", waiting_reason="budget"), "needs_you"),
        (life(), Facts(turn_state="waiting", waiting_reason="budget", budget_decided=True), "working"),
        (life(), Facts(turn_state="waiting", waiting_reason="operator"), "needs_you"),
        (life(), Facts(needs_login=True), "needs_you"),
        (life(running=False), Facts(turn_state="thinking", needs_login=True), "stopped"),
        (life(running=False, failed=True), Facts(), "failed"),
    ],
)
def test_the_state_says_what_the_operator_must_know_first(life: Life, facts: Facts, state: str) -> None:
    assert assemble(life, facts).state == state


def test_what_does_not_run_has_no_turn() -> None:
    view = assemble(
        life(running=False), Facts(turn_state="waiting", waiting_reason="limited", waiting_until=5, unread=3)
    )
    assert (view.turn_state, view.waiting_reason, view.waiting_until, view.unread) == ("idle", None, None, 3)


class Scene:
    """Agents whose unread count the test sets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bus: Bus[AnyDashboardEvent] = Bus()
        self.unread: dict[AgentName, int] = {ALICE: 0, BOB: 0}
        self.looks = 0
        self.views = Views(self.look, self.bus, self.clock)

    def look(self, name: AgentName) -> ContainerView:
        self.looks += 1
        if name not in self.unread:
            raise NotFound(name)
        one = Life(
            name=name,
            manager=False,
            running=True,
            failed=False,
            held=False,
            isolation="bwrap",
            network="host",
        )
        return assemble(one, Facts(unread=self.unread[name]))

    def set(self, name: AgentName, unread: int) -> None:
        self.unread[name] = unread
        self.views.touch(name)

    def told(self, name: AgentName = ALICE) -> list[int]:
        events = [frame.event for frame in self.bus.history()]
        return [
            e.container.unread
            for e in events
            if isinstance(e, ContainerStateChanged) and e.container.name == name
        ]


@asynccontextmanager
async def running() -> AsyncIterator[Scene]:
    scene = Scene()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.views.run)
        await anyio.wait_all_tasks_blocked()
        yield scene
        tasks.cancel_scope.cancel()


async def test_only_what_changed_is_told() -> None:
    async with running() as scene:
        for _ in range(3):
            scene.set(ALICE, 1)
            await scene.clock.advance(1)
        assert scene.told() == [1]
        assert scene.told(BOB) == []


async def test_at_most_four_a_second_and_agent_and_the_last_one_always() -> None:
    async with running() as scene:
        for number in range(1, 101):
            scene.set(ALICE, number)
            await anyio.wait_all_tasks_blocked()
            await scene.clock.advance(0.01)
        await scene.clock.advance(1)
        told = scene.told()
        assert told[0] == 1
        assert told[-1] == 100
        assert len(told) <= 5
        assert scene.clock.sleepers == 0


async def test_a_busy_agent_does_not_hold_up_another_for_longer_than_a_pause() -> None:
    async with running() as scene:
        scene.set(ALICE, 1)
        await anyio.wait_all_tasks_blocked()
        scene.set(ALICE, 2)
        await anyio.wait_all_tasks_blocked()
        scene.set(BOB, 7)
        await scene.clock.advance(0.25)
        assert scene.told(BOB) == [7]
        assert scene.told() == [1, 2]


async def test_an_agent_that_is_gone_is_not_told_of() -> None:
    async with running() as scene:
        scene.set(ALICE, 1)
        del scene.unread[ALICE]
        scene.views.forget(ALICE)
        scene.views.touch(ALICE)
        await scene.clock.advance(1)
        assert scene.told() == []
