"""The fake clock: nothing wakes but by `advance`, in the order of the times; jumps move the wall clock alone."""

import anyio

from hyperhive.testing import FakeClock


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = FakeClock(now=1000)
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.time()))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for seconds in (30, 10, 20):
                group.start_soon(sleeper, seconds)
            await clock.until_sleepers(3)
            assert clock.next_wake == 10
            await clock.advance(9)
            assert woken == []
            await clock.advance(21)
    assert woken == [(10, 1010), (20, 1020), (30, 1030)]


async def test_one_who_sleeps_again_is_woken_again_within_one_advance() -> None:
    clock = FakeClock()
    start = clock.monotonic()
    times: list[float] = []

    async def ticker() -> None:
        for _ in range(3):
            await clock.sleep(10)
            times.append(clock.monotonic() - start)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ticker)
            await clock.until_sleepers()
            await clock.advance(60)
    assert times == [10, 20, 30]


async def test_a_jump_wakes_nobody() -> None:
    clock = FakeClock(now=1000)
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, 10)
        await clock.until_sleepers()
        clock.jump(100)
        await anyio.wait_all_tasks_blocked()
        assert (clock.time(), clock.sleepers) == (1100, 1)
        group.cancel_scope.cancel()
    assert clock.sleepers == 0


async def test_no_time_passes_at_once() -> None:
    clock = FakeClock()
    with anyio.fail_after(5):
        await clock.sleep(0)
        await clock.sleep(-1)
