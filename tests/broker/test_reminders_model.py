"""Reminders against a model: any order of setting, cancelling, waiting, clock jumps, restarts and crashes.

The model is the promise: a reminder that was set and not cancelled is mailed once, and not before it is due by one of
its clocks; those that are due at one moment come in the order of their times.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker
from hyperhive.broker.reminder_timer import LOOK_SECONDS
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.store import Store
from hyperhive.testing import FakeClock

T = TypeVar("T")
NAMES = ("alice", "bob")
names = st.sampled_from(NAMES)


@dataclass
class Known:
    """What the model knows of one reminder.

    `steady`: when it is due on the clock that does not jump; `first_steady`: the least that this ever was; `peak`: the
    highest wall time since it was set.
    """

    id: int
    owner: str
    text: str
    due_at: int
    steady: float
    delay: int | None
    first_steady: float
    peak: float
    cancelled: bool = False
    mailed: bool = False

    def was_due(self, steady: float) -> bool:
        """By the highest wall time since it was set, or by the steady clock, as any start counted it."""
        return self.due_at <= self.peak or self.first_steady <= steady


class ReminderMachine(RuleBasedStateMachine):
    """Each rule does one thing to the broker and to the model; the invariant compares."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="hh-"))
        self.paths = Paths.of(self.directory / "s")
        for name in NAMES:
            self.paths.agent_state(AgentName(name)).mkdir(parents=True)
        self.clock = FakeClock()
        self.known: dict[int, Known] = {}
        self.number = 0
        self.seen = 0  # the newest message that was looked at
        self.overdue: list[int] | None = None  # after a restart: what must come, in this order
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        async def opened() -> Broker:
            store = await Store.open(self.paths.database, migrations=[MIGRATIONS], clock=self.clock)
            files = AgentFiles(self.paths, isolated=True)
            return await Broker(store=store, clock=self.clock, files=files).start()

        self.broker = self.run(opened())

    def close(self) -> None:
        async def closed() -> None:
            await self.broker.aclose()
            await self.broker.store.aclose()

        self.run(closed())

    def teardown(self) -> None:
        self.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    def open_ones(self) -> list[Known]:
        return [one for one in self.known.values() if not (one.mailed or one.cancelled)]

    # --- rules ---

    @rule(
        name=names,
        delay=st.sampled_from([0, 30, 60, 61, 86400]),
        to_file=st.sampled_from([False, False, True]),
    )
    def set_for_a_while(self, name: str, delay: int, to_file: bool) -> None:
        self.was_set(name, delay, None, to_file)

    @rule(
        name=names,
        ahead=st.sampled_from([-86400, 0, 1, 60, 86400]),
        to_file=st.sampled_from([False, False, True]),
    )
    def set_for_a_time(self, name: str, ahead: int, to_file: bool) -> None:
        self.was_set(name, None, int(self.clock.time()) + ahead, to_file)

    def was_set(self, name: str, delay: int | None, due_at: int | None, to_file: bool) -> None:
        self.number += 1
        text = f"reminder text {self.number}"
        path = f"notes/{self.number}.md" if to_file else None
        due = due_at if due_at is not None else int(self.clock.time()) + (delay or 0)
        steady = float("inf") if delay is None else self.clock.monotonic() + delay
        number = self.run(
            self.broker.reminders.set(name, text, delay_seconds=delay, due_at=due_at, file_path=path)
        )
        assert number not in self.known
        self.known[number] = Known(number, name, text, due, steady, delay, steady, self.clock.time())

    @rule(pick=st.integers(0, 5))
    def cancel(self, pick: int) -> None:
        candidates = self.open_ones()
        if candidates:
            one = candidates[pick % len(candidates)]
            self.run(self.broker.reminders.cancel(one.id, by=one.owner))
            one.cancelled = True

    @rule(seconds=st.sampled_from([1, 30, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.run(self.clock.advance(seconds))

    @rule(seconds=st.sampled_from([-400 * 86400, -86400, -1, 3600]))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)
        self.run(self.clock.advance(LOOK_SECONDS))

    @rule(gone=st.sampled_from([0, 1, 86400]))
    def restart(self, gone: int) -> None:
        self.close()
        self.reopen(gone)
        wall, steady = self.clock.time(), self.clock.monotonic()
        overdue = [one for one in self.open_ones() if one.due_at <= wall or one.steady <= steady]
        self.overdue = [one.id for one in sorted(overdue, key=lambda one: (one.due_at, one.id))]

    @rule(gone=st.sampled_from([0, 1, 86400]), wait=st.sampled_from([0, 1, 60]), steps=st.integers(0, 8))
    def crash_while_something_may_be_due(self, gone: int, wait: int, steps: int) -> None:
        async def crash() -> None:
            self.clock.jump(wait)
            ticking = asyncio.ensure_future(self.clock.advance(wait))
            for _ in range(steps):
                await asyncio.sleep(0)
            await self.broker.store.abandon()
            await ticking
            await self.broker.aclose()

        self.run(crash())
        self.reopen(gone)

    def reopen(self, gone: int) -> None:
        """The machine's clock goes on while the hive is down; the steady clock starts from what is on disk."""
        self.clock.jump(gone)
        wall = self.clock.time()
        for one in self.known.values():
            if one.delay is not None:
                one.steady = self.clock.monotonic() + max(0, min(one.due_at - wall, one.delay))
                one.first_steady = min(one.steady, one.first_steady)
        self.open()

    # --- the promise ---

    @invariant()
    def what_is_due_is_mailed_once_and_nothing_else(self) -> None:
        async def looked() -> list[tuple[int, str, str]]:
            # What is out of the timer's memory is on disk. No clock moves meanwhile; threads do.
            for _ in range(2000):
                if not self.broker.reminders._timer._due():
                    break
                await asyncio.sleep(0.001)
            return await self.broker.store.read(
                lambda conn: conn.execute(
                    "SELECT id, recipient, body FROM messages WHERE id > ? ORDER BY id", (self.seen,)
                ).fetchall()
            )

        wall, steady = self.clock.time(), self.clock.monotonic()
        for one in self.known.values():
            one.peak = max(one.peak, wall)
        batch = [self.mailed(*row) for row in self.run(looked())]
        assert all(one.was_due(steady) for one in batch)
        assert self.overdue is None or self.overdue == [one.id for one in batch]
        self.overdue = None
        due = [one for one in self.known.values() if one.due_at <= wall or one.steady <= steady]
        assert all(one.mailed or one.cancelled for one in due)
        for name in NAMES:
            waiting = [one for one in self.open_ones() if one.owner == name]
            assert self.broker.reminders.pending_now(name) == len(waiting)
            assert [one.id for one in self.run(self.broker.reminders.open(name))] == [
                one.id for one in sorted(waiting, key=lambda one: (one.due_at, one.id))
            ]

    def mailed(self, number: int, recipient: str, body: str) -> Known:
        self.seen = number
        head, _, text = body.partition("\n\n")
        one = self.known[int(head.removeprefix("[reminder ").partition(",")[0])]
        assert not one.mailed, "mailed twice"
        assert not one.cancelled, "mailed although it was cancelled"
        assert recipient == one.owner
        if not text:
            place = head.partition("in the file /state/")[2].removesuffix("]")
            text = (self.paths.agent_state(AgentName(one.owner)) / place).read_text()
        assert text == one.text
        one.mailed = True
        return one


def check(examples: int, steps: int, *, random: bool = True) -> None:
    run_state_machine_as_test(
        ReminderMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not random,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_reminders_do_what_the_model_does() -> None:
    check(examples=10, steps=30, random=False)  # the campaign looks for new ones


@pytest.mark.campaign
def test_reminders_do_what_the_model_does_for_long() -> None:
    check(examples=1500, steps=80)
