"""Background tasks outlive their opener's task and fail alone."""

import asyncio
import contextvars
import logging
import threading

import anyio
import pytest

from hyperhive.background import Background


async def test_it_opens_in_one_task_and_closes_in_another() -> None:
    background = Background("test")
    await asyncio.create_task(_start(background))
    ended = anyio.Event()
    running = anyio.Event()

    async def work() -> None:
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    background.spawn(work, "work")
    with anyio.fail_after(5):
        await running.wait()
        await asyncio.create_task(background.aclose())
    assert ended.is_set()


async def _start(background: Background) -> None:
    await background.start()


async def test_a_task_that_fails_is_logged_and_takes_no_other_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background = await Background("test").start()
    go, failed = anyio.Event(), anyio.Event()

    async def bad() -> None:
        failed.set()
        raise ValueError("boom")

    async def good() -> None:
        await failed.wait()
        go.set()

    with caplog.at_level(logging.ERROR):
        background.spawn(good, "good")
        background.spawn(bad, "bad")
        with anyio.fail_after(5):
            await go.wait()
    await background.aclose()
    assert "background_task_failed task=bad" in caplog.text


async def test_the_scope_ends_just_its_own_task() -> None:
    background = await Background("test").start()
    ended = [anyio.Event(), anyio.Event()]

    async def work(n: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended[n].set()

    first = background.spawn(lambda: work(0), "first")
    background.spawn(lambda: work(1), "second")
    await anyio.wait_all_tasks_blocked()
    first.cancel()
    with anyio.fail_after(5):
        await ended[0].wait()
    assert not ended[1].is_set()
    await background.aclose()
    assert ended[1].is_set()


async def test_nothing_is_spawned_after_the_close() -> None:
    background = await Background("test").start()
    await background.aclose()
    await background.aclose()
    with pytest.raises(RuntimeError):
        background.spawn(anyio.sleep_forever, "late")


async def test_it_takes_work_from_a_callback_that_another_thread_asked_for() -> None:
    """What the database's writer has committed is told so: in no task, and in a context of nobody's."""
    background = await Background("test").start()
    loop, done = asyncio.get_running_loop(), anyio.Event()

    async def work() -> None:
        done.set()

    def ask() -> None:
        loop.call_soon_threadsafe(background.spawn, work, "work", context=contextvars.Context())

    threading.Thread(target=ask).start()
    with anyio.fail_after(5):
        await done.wait()
        await background.aclose()
