"""Claims about slots: how many turns run, in which order they wait, and which warm processes go when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.errors import WorldError
from hyperhive.harness.slots import BUSY_RETRY_SECONDS, Slots, default_max_turns
from quick import QuickClock, examples

IDLE = 600.0


class Process:
    """A warm process that notes its end."""

    def __init__(self) -> None:
        self.warm: bool = True
        self.retirable = True
        self.fault: WorldError | None = None

    async def retire(self) -> None:
        await checkpoint()
        if self.fault:
            raise self.fault
        self.warm = False


@asynccontextmanager
async def keeper(max_turns: int = 4, max_warm: int = 8) -> AsyncIterator[tuple[Slots, QuickClock]]:
    clock = QuickClock()
    slots = Slots(max_turns=max_turns, max_warm=max_warm, idle_seconds=IDLE, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(slots.run)
        await settle()
        yield slots, clock
        group.cancel_scope.cancel()


async def settle() -> None:
    for _ in range(30):
        await checkpoint()


async def use(slots: Slots, process: Process) -> None:
    async with slots.turn(process, lambda: None):
        await checkpoint()


async def test_a_process_is_retired_after_its_idle_time_and_not_before() -> None:
    async with keeper() as (slots, clock):
        process = Process()
        await use(slots, process)
        await settle()
        await clock.advance(IDLE - 1)
        assert slots.idle == 1
        await clock.advance(1)
        await settle()
        assert not process.warm
        assert clock.sleepers == 0, "nothing is left to wait for"


async def test_a_turn_in_between_starts_the_idle_time_anew() -> None:
    async with keeper() as (slots, clock):
        process = Process()
        await use(slots, process)
        await settle()
        await clock.advance(IDLE - 1)
        await use(slots, process)
        await clock.advance(IDLE - 1)
        assert slots.idle == 1
        await clock.advance(1)
        assert not process.warm


async def test_beyond_the_cap_the_least_recently_used_goes_at_once() -> None:
    async with keeper(max_warm=2) as (slots, _):
        first, second, third = Process(), Process(), Process()
        for process in (first, second, first, third):
            await use(slots, process)
            await settle()
        assert [process.warm for process in (first, second, third)] == [True, False, True]


async def test_with_a_cap_of_none_no_process_stays_warm() -> None:
    async with keeper(max_warm=0) as (slots, _):
        process = Process()
        await use(slots, process)
        await settle()
        assert not process.warm


async def test_a_process_with_background_tasks_is_never_retired_and_goes_when_they_end() -> None:
    async with keeper(max_warm=1) as (slots, clock):
        busy, other = Process(), Process()
        busy.retirable = False
        await use(slots, busy)
        await use(slots, other)
        await settle()
        assert busy.warm
        assert not other.warm, "the cap is kept by the next one in line"
        await clock.advance(10 * IDLE)
        assert busy.warm
        busy.retirable = True
        await clock.advance(BUSY_RETRY_SECONDS)
        await settle()
        assert not busy.warm


async def test_a_process_in_a_turn_is_never_retired() -> None:
    async with keeper(max_warm=0) as (slots, clock):
        process = Process()
        async with slots.turn(process, lambda: None):
            await clock.advance(10 * IDLE)
            await settle()
            assert process.warm
        await settle()
        assert not process.warm


async def test_a_warm_process_that_has_a_turn_again_is_not_retired_however_long_that_takes() -> None:
    async with keeper(max_warm=1) as (slots, clock):
        process, other = Process(), Process()
        await use(slots, process)
        await settle()
        assert slots.idle == 1
        async with slots.turn(process, lambda: None):
            assert slots.idle == 0, "it does not wait, and takes no place of those that do"
            await clock.advance(10 * IDLE)
            await settle()
            assert process.warm
            await use(slots, other)
            await settle()
            assert (process.warm, other.warm, slots.idle) == (True, True, 1)


async def test_a_process_that_ended_by_itself_is_forgotten_and_counts_for_nothing() -> None:
    async with keeper(max_warm=1) as (slots, clock):
        gone, other = Process(), Process()
        gone.retirable = False
        await use(slots, gone)
        gone.warm = False
        await use(slots, other)
        await settle()
        assert slots.idle == 1, "the cap is not taken up by what is gone"
        await clock.advance(IDLE)
        await settle()
        assert (slots.idle, clock.sleepers) == (0, 0)


async def test_a_process_that_will_not_go_does_not_keep_the_others() -> None:
    async with keeper() as (slots, clock):
        stubborn, other = Process(), Process()
        stubborn.fault = WorldError("no")
        await use(slots, stubborn)
        await use(slots, other)
        await settle()
        await clock.advance(IDLE)
        await settle()
        assert not other.warm


async def test_turns_beyond_the_number_of_slots_are_queued_first_in_first_out() -> None:
    async with keeper(max_turns=2) as (slots, _):
        order: list[str] = []
        gates = {name: anyio.Event() for name in "abcde"}

        async def turn(name: str) -> None:
            async with slots.turn(Process(), lambda: order.append(f"{name} queued")):
                order.append(f"{name} runs")
                await gates[name].wait()

        async with anyio.create_task_group() as group:
            for name in "abcde":
                group.start_soon(turn, name)
                await settle()
            assert order == ["a runs", "b runs", "c queued", "d queued", "e queued"]
            assert (slots.running, slots.queued) == (2, 3)
            for name in "bacde":
                gates[name].set()
                await settle()
        assert order[5:] == ["c runs", "d runs", "e runs"]
        assert (slots.running, slots.queued) == (0, 0)


async def test_one_that_gives_up_waiting_takes_no_slot_with_it() -> None:
    async with keeper(max_turns=1) as (slots, _):
        async with slots.turn(Process(), lambda: None):
            async with anyio.create_task_group() as group:
                group.start_soon(use, slots, Process())
                await settle()
                assert slots.queued == 1
                group.cancel_scope.cancel()
            assert slots.queued == 0
        with anyio.fail_after(5):
            await use(slots, Process())


@pytest.mark.parametrize(("cores", "gigabytes", "turns"), [(2, 64, 4), (16, 4, 13), (1, 0, 1), (8, 1, 3)])
def test_turns_are_two_a_core_as_far_as_memory_goes(cores: int, gigabytes: int, turns: int) -> None:
    assert default_max_turns(cores, gigabytes * 2**30) == turns


def test_this_machine_has_at_least_one_turn() -> None:
    assert default_max_turns() >= 1


@examples(60)
@given(
    st.lists(st.tuples(st.sampled_from(["use", "wait", "busy", "free"]), st.integers(0, 4)), max_size=40),
    st.integers(0, 3),
)
def test_after_any_history_no_idle_process_outlives_its_time_or_the_cap(
    steps: list[tuple[str, int]], max_warm: int
) -> None:
    async def play() -> None:
        async with keeper(max_warm=max_warm) as (slots, clock):
            processes = [Process() for _ in range(5)]
            for step, which in steps:
                process = processes[which]
                if step == "use":
                    process.warm = True
                    await use(slots, process)
                elif step == "wait":
                    await clock.advance(IDLE / 3)
                else:
                    process.retirable = step == "free"
                await settle()
            for process in processes:
                process.retirable = True
            await clock.advance(BUSY_RETRY_SECONDS)
            await settle()
            assert sum(process.warm and process in slots._idle for process in processes) <= max_warm
            await clock.advance(2 * IDLE)
            await settle()
            assert slots.idle == 0

    anyio.run(play)


async def test_a_turn_that_waits_for_a_human_lends_its_slot_and_waits_to_go_on() -> None:
    async with keeper(max_turns=1) as (slots, _):
        first, second = Process(), Process()
        order: list[str] = []
        over = anyio.Event()

        async def asks() -> None:
            async with slots.turn(first, lambda: None):
                slots.lend(first)
                slots.lend(first)
                order.append("first waits")
                await settle()
                await slots.reclaim(first)
                await slots.reclaim(first)
                order.append("first goes on")

        async def works() -> None:
            async with slots.turn(second, lambda: None):
                order.append("second runs")
                await over.wait()
                order.append("second ends")

        async with anyio.create_task_group() as group:
            group.start_soon(asks)
            group.start_soon(works)
            await settle()
            await settle()
            assert order == ["first waits", "second runs"]
            assert slots.running == 1
            over.set()
        assert order[2:] == ["second ends", "first goes on"]
        assert slots.running == 0
        await use(slots, first)  # the one slot is there, once


@pytest.mark.parametrize("when", ["while it waits for the human", "while it waits for the slot"])
async def test_a_lent_slot_is_neither_lost_nor_doubled_when_its_turn_ends(when: str) -> None:
    async with keeper(max_turns=1) as (slots, _):
        asking, other = Process(), Process()
        async with anyio.create_task_group() as group:
            async with slots.turn(asking, lambda: None):
                slots.lend(asking)
                if when == "while it waits for the slot":
                    await slots.turn(other, lambda: None).__aenter__()
                    group.start_soon(slots.reclaim, asking)
                    await settle()
            await settle()
            if when == "while it waits for the slot":
                slots.lend(other)  # its turn ends: the one that waited finds its own ended, and takes nothing
                await settle()
            async with slots.turn(Process(), lambda: None):
                queued: list[str] = []
                group.start_soon(use_told, slots, queued)
                await settle()
                assert queued == ["queued"], "there is one slot"
        assert slots.running == 0


async def use_told(slots: Slots, queued: list[str]) -> None:
    async with slots.turn(Process(), lambda: queued.append("queued")):
        await checkpoint()
