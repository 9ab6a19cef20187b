"""A turn loop on a real Broker with a runner whose turns a test ends by hand: for tests of the loop."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from broker_core import BrokerCore
from hyperhive.accounts import AccountState, BoundAccount
from hyperhive.broker import Broker
from hyperhive.harness.files import TurnNumbers
from hyperhive.harness.loop import TurnLoop
from hyperhive.harness.pauses import PauseSettings
from hyperhive.harness.slots import Slots
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.types import Delivery, ResultKind, TurnStateName, WaitingReason
from hyperhive.testing.clock import FakeClock

LIMIT = 5.0
"""Seconds of real time until a test gives up."""


class Turn:
    """A turn that was started: what it was given, and the way to end it."""

    def __init__(
        self, messages: Sequence[Delivery], unread: int, number: int, interruption: str | None
    ) -> None:
        self.messages = list(messages)
        self.unread = unread
        self.number = number
        self.interruption = interruption
        self.injected: list[Delivery] = []
        self.interrupted_by: str | None = None
        self.happened = anyio.Event()
        self._over = anyio.Event()
        self._result: TurnResult | None = None

    @property
    def ids(self) -> list[int]:
        return [one.id for one in self.messages]

    @property
    def bodies(self) -> list[str]:
        return [one.body for one in self.messages]

    def end(self, kind: ResultKind = "ok", **fields: object) -> None:
        """End it. Unless said otherwise everything it was handed is done (ok) or pending (everything else)."""
        given = (*self.ids, *(one.id for one in self.injected))
        fields = {"done" if kind == "ok" else "pending": given} | fields
        self._result = TurnResult(kind=kind, **fields)  # type: ignore[arg-type]
        self._over.set()

    async def result(self) -> TurnResult:
        await self._over.wait()
        assert self._result is not None
        return self._result


class HandRunner:
    """A runner whose turns wait to be ended by hand. `takes`: whether it lets a running turn have more mail."""

    def __init__(self) -> None:
        self.warm = False
        self.retirable = True
        self.takes = True
        self.fault: Exception | None = None
        self.obeys = True
        self.current: Turn | None = None
        self._given: Turn | None = None
        self._started = anyio.Event()

    async def run(
        self, messages: Sequence[Delivery], *, unread: int = 0, turn: int = 0, interruption: str | None = None
    ) -> TurnResult:
        if self.fault is not None:
            raise self.fault
        assert self.current is None, "two turns at once"
        self.current = Turn(messages, unread, turn, interruption)
        self._started.set()
        try:
            return await self.current.result()
        finally:
            self.current = None

    async def inject(self, delivery: Delivery) -> bool:
        await checkpoint()
        if self.current is None or not self.takes:
            return False
        self.current.injected.append(delivery)
        self.current.happened.set()
        return True

    async def interrupt(self, reason: str) -> bool:
        await checkpoint()
        if self.current is None:
            return False
        self.current.interrupted_by = reason
        self.current.happened.set()
        if self.obeys:
            self.current.end("failed", interrupted=True, note=reason)
        return True

    async def retire(self) -> None:
        self.warm = False

    async def next_turn(self) -> Turn:
        """The next turn to start that this has not given before."""
        with anyio.fail_after(LIMIT):
            while self.current is None or self.current is self._given:
                self._started = anyio.Event()
                await self._started.wait()
        self._given = self.current
        return self.current


class Seen:
    """`LoopEvents` that remembers."""

    def __init__(self) -> None:
        self.states: list[tuple[TurnStateName, WaitingReason | None]] = []
        self.until: float | None = None
        self.notes: list[str] = []
        self.settled: list[tuple[int, str, TurnResult]] = []
        self._changed = anyio.Event()

    def state_changed(self, state: TurnStateName, reason: WaitingReason | None, until: float | None) -> None:
        self.until = until
        if not self.states or self.states[-1] != (state, reason):
            self.states.append((state, reason))
        self._tell()

    def noted(self, text: str) -> None:
        self.notes.append(text)
        self._tell()

    def turn_settled(self, number: int, wake_from: str, result: TurnResult) -> None:
        self.settled.append((number, wake_from, result))
        self._tell()

    async def until_true(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(LIMIT):
            while not condition():
                self._changed = anyio.Event()
                await self._changed.wait()

    async def until_state(self, state: TurnStateName, reason: WaitingReason | None = None) -> None:
        await self.until_true(lambda: bool(self.states) and self.states[-1] == (state, reason))

    def _tell(self) -> None:
        self._changed.set()


class Rig:
    """One agent's loop and everything it touches."""

    def __init__(self, broker: Broker, tmp_path: Path, clock: FakeClock, agent: str, slots: Slots) -> None:
        self.broker = broker
        self.agent = agent
        self.clock = clock
        self.core = BrokerCore(broker, agent)
        self.runner = HandRunner()
        self.seen = Seen()
        self.account = AccountState("default")
        self.slots = slots
        self.loop = TurnLoop(
            core=self.core,
            runner=self.runner,
            slots=slots,
            numbers=TurnNumbers(tmp_path / f"{agent}-turn"),
            account=lambda: BoundAccount("default", None, self.account, agent),
            events=self.seen,
            settings=PauseSettings(),
            clock=clock,
            random=lambda: 0.0,
        )

    async def send(self, body: str, **fields: str) -> int:
        return (await self.broker.send("operator", self.agent, body, **fields)).id  # type: ignore[arg-type]

    async def state_of(self, message: int) -> str:
        """`acked`, `dead`, `in flight` or `pending`."""
        if message in self.broker.in_flight_now(self.agent):
            return "in flight"
        if message in [one.id for one in await self.broker.dead()]:
            return "dead"

        def look(connection: object) -> object:
            return connection.execute(  # type: ignore[attr-defined]
                "SELECT acked_at FROM messages WHERE id = ?", (message,)
            ).fetchone()

        row = await self.broker.store.read(look)
        assert isinstance(row, tuple)
        return "acked" if row[0] is not None else "pending"

    async def advance(self, seconds: float) -> None:
        """Let the pause begin, then move the time on."""
        with anyio.fail_after(LIMIT):
            await self.clock.until_sleepers()
        await self.clock.advance(seconds)

    async def in_flight(self, count: int) -> None:
        """Wait until so many messages are in flight."""
        with anyio.fail_after(LIMIT):
            while len(self.broker.in_flight_now(self.agent)) < count:
                await checkpoint()


@asynccontextmanager
async def rig(tmp_path: Path, *, max_turns: int = 4, run: bool = True) -> AsyncIterator[Rig]:
    """A loop that runs until the test's end, on a clock that stands still."""
    async with rigs(tmp_path, ["bob"], max_turns=max_turns, run=run) as (group, found):
        yield found["bob"]
        group.cancel_scope.cancel()


@asynccontextmanager
async def rigs(
    tmp_path: Path, agents: Sequence[str], *, max_turns: int = 4, run: bool = True
) -> AsyncIterator[tuple[TaskGroup, dict[str, Rig]]]:
    """Several loops on one broker, one account and one keeper of slots."""
    clock = FakeClock()
    slots = Slots(max_turns=max_turns, max_warm=8, idle_seconds=600, clock=clock)
    async with Broker.open(tmp_path / "hive.sqlite") as broker, anyio.create_task_group() as group:
        found = {agent: Rig(broker, tmp_path, clock, agent, slots) for agent in agents}
        shared = AccountState("default")
        for one in found.values():
            one.account = shared
            if run:
                group.start_soon(one.loop.run)
        yield group, found
        group.cancel_scope.cancel()
