"""What the lifecycle needs of a harness: ports that the hive fills in, and how one is stopped.

A harness is the loop of one agent. Nothing here knows what it does.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import anyio

from hyperhive.clock import Clock
from hyperhive.errors import HiveError
from hyperhive.names import AgentName

Ended = Callable[[str | None], None]
"""Called with the reason when a loop ended although nobody asked it to."""


class Harness(Protocol):
    """One agent's running loop."""

    def moved_in(self) -> None:
        """The container that it lives in is up, where agents live in containers: it should be heard of soon."""
        ...

    async def stop(self, *, now: bool) -> None:
        """Ends the loop: after the running turn, or by ending that turn where `now`.

        Contract: returns when the loop and every process of it have ended; may be called again while a first call
        waits, and `now` then hurries that one too. Does not call `ended`.
        """
        ...


class HarnessFactory(Protocol):
    """Makes harnesses."""

    async def start(self, agent: AgentName, ended: Ended) -> Harness:
        """Starts an agent's loop; returns when it waits for mail or is on its way there.

        Contract: starts no program (an idle agent costs no process). `ended` is called once, on the event loop's
        thread, when the loop ends without `stop`; never before `start` returned.

        Raises:
            HiveError: the loop cannot be started as things are.
        """
        ...


class _NoLoop:
    def moved_in(self) -> None: ...

    async def stop(self, *, now: bool) -> None:
        del now
        await anyio.lowlevel.checkpoint()


class NoHarnesses:
    """Agents without a loop: for a lifecycle that is used alone."""

    async def start(self, agent: AgentName, ended: Ended) -> Harness:
        """A harness that does nothing."""
        del agent, ended
        return _NoLoop()


async def drain(harness: Harness, clock: Clock, seconds: float, *, now: bool) -> None:
    """Stops a harness: its running turn has `seconds` to end by itself, and none where `now`.

    Raises:
        HiveError: what `Harness.stop` raised.
    """
    if now:
        await harness.stop(now=True)
        return
    failure: HiveError | None = None
    async with anyio.create_task_group() as tasks:

        async def hurry() -> None:
            await clock.sleep(seconds)
            with suppress(HiveError):  # the same loop fails the stop below
                await harness.stop(now=True)

        tasks.start_soon(hurry)
        try:
            await harness.stop(now=False)
        except HiveError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
