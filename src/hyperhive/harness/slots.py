"""How many turns run at once, and how many warm CLI processes wait without one: one keeper for all agents of a process.

Turns beyond `max_turns` wait first in, first out. A process that ended its turn stays warm for `idle_seconds`, the
least recently used one first to go where there are more than `max_warm`; one with background tasks under way stays. One
timer serves all agents. This file starts no turn and knows no CLI.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from hyperhive.clock import Clock
from hyperhive.errors import HiveError

log = logging.getLogger(__name__)

TURN_BYTES = 300 * 2**20
"""What one running CLI may take; a warm one was measured at 190 to 290 MB."""

BUSY_RETRY_SECONDS = 30.0


class WarmProcess(Protocol):
    """One agent's CLI process as the keeper sees it.

    Contract: `retirable` is true while a process is there that runs neither a turn nor background tasks; `retire` ends
    it and returns when it is gone; it does nothing where there is none.
    """

    @property
    def warm(self) -> bool: ...

    @property
    def retirable(self) -> bool: ...

    async def retire(self) -> None: ...


def default_max_turns(cores: int | None = None, memory_bytes: int | None = None) -> int:
    """Two for each core, at most what memory holds at 300 MB each, at least one. Defaults: this machine's."""
    cores = cores if cores is not None else len(os.sched_getaffinity(0))
    if memory_bytes is None:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(2 * cores, memory_bytes // TURN_BYTES))


class Slots:
    """The process-wide keeper. `run` must be running for idle processes to be retired."""

    def __init__(self, *, max_turns: int, max_warm: int, idle_seconds: float, clock: Clock) -> None:
        """`max_turns` of 0 means `default_max_turns()`."""
        self._turns = anyio.Semaphore(max_turns or default_max_turns())
        self._max_warm = max_warm
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._turning: dict[WarmProcess, bool] = {}  # whether it holds its slot, or has lent it
        self._idle: dict[WarmProcess, float] = {}  # insertion order is the order of last use
        self._wake = anyio.Event()
        self.running = 0
        self.queued = 0

    @property
    def idle(self) -> int:
        """Warm processes that wait without a turn."""
        return len(self._idle)

    @asynccontextmanager
    async def turn(self, process: WarmProcess, on_queued: Callable[[], None]) -> AsyncIterator[None]:
        """Hold a turn's slot. Where none is free `on_queued` is called and the caller waits its turn."""
        await self._acquire(on_queued)
        self._idle.pop(process, None)
        self._turning[process] = True
        self.running += 1
        try:
            yield
        finally:
            self.lend(process)
            del self._turning[process]
            self.rest(process)

    def lend(self, process: WarmProcess) -> None:
        """Its turn waits for a human: meanwhile another may have the slot."""
        if self._turning.get(process):
            self._turning[process] = False
            self.running -= 1
            self._turns.release()

    async def reclaim(self, process: WarmProcess) -> None:
        """Its turn goes on, as soon as there is a slot for it again."""
        if self._turning.get(process) is not False:
            return
        await self._acquire(lambda: None)
        if self._turning.get(process) is False:
            self._turning[process] = True
            self.running += 1
        else:  # its turn has ended meanwhile, or has its slot back already
            self._turns.release()

    def rest(self, process: WarmProcess) -> None:
        """The process has no turn: keep it warm for a while, if it is there."""
        self._idle.pop(process, None)
        if process.warm:
            self._idle[process] = self._clock.monotonic()
            if len(self._idle) == 1 or len(self._idle) > self._max_warm:
                self._wake.set()

    def forget(self, process: WarmProcess) -> None:
        """This agent is gone; its owner ended the process."""
        self._idle.pop(process, None)

    async def run(self) -> None:
        """Retire what is due, for ever. Sleeps until then; with no warm process it does nothing at all."""
        while True:
            for process in self._due():
                await self._retire(process)
            self._wake = anyio.Event()
            await self._pause()

    async def _acquire(self, on_queued: Callable[[], None]) -> None:
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            self.queued += 1
            try:
                on_queued()
                await self._turns.acquire()
            finally:
                self.queued -= 1

    def _due(self) -> list[WarmProcess]:
        now = self._clock.monotonic()
        for gone in [process for process in self._idle if not process.warm]:  # it ended by itself
            del self._idle[gone]
        surplus = len(self._idle) - self._max_warm
        due: list[WarmProcess] = []
        for process, since in self._idle.items():
            old = now - since >= self._idle_seconds
            if (old or len(due) < surplus) and process.retirable:
                due.append(process)
        return due

    async def _retire(self, process: WarmProcess) -> None:
        if process not in self._idle or not process.retirable:
            return  # a turn began while another process was being retired
        del self._idle[process]
        try:
            await process.retire()
        except HiveError as error:
            log.warning("warm_process_not_retired error=%s", error)

    async def _pause(self) -> None:
        """Until something may be due, or `rest` says that something has changed."""
        wake = self._wake
        if not self._idle:
            await wake.wait()
            return
        now = self._clock.monotonic()
        seconds = min(since + self._idle_seconds - now for since in self._idle.values())
        if seconds <= 0 or (len(self._idle) > self._max_warm and not self._due()):
            seconds = min(
                BUSY_RETRY_SECONDS, self._idle_seconds
            )  # due, but busy in the background: look again
        if self._due():
            return
        async with anyio.create_task_group() as group:

            async def sleep() -> None:
                await self._clock.sleep(seconds)
                group.cancel_scope.cancel()

            group.start_soon(sleep)
            await wake.wait()
            group.cancel_scope.cancel()
