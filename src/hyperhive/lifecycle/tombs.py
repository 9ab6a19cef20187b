"""`Tombs`: what destroyed agents left on disk, and how much that is.

What lies in a grave does not change: each is measured once, in the background, and the fleet is told. Deletes nothing.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread

from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.lifecycle.disk import measure
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyDashboardEvent, TombstonesChanged
from hyperhive.protocol.screens import Tombstone

log = logging.getLogger(__name__)

FIRST_SECONDS: Final = 2.0
"""Agents come up before anything is counted."""


class Graves(Protocol):
    """What is needed of the lifecycle."""

    def tombstones(self) -> Sequence[str]: ...

    def destroyed_at(self, name: str) -> int | None: ...


class Tombs:
    """The tombstones of one hive. Run `run` once, in the background."""

    def __init__(
        self, paths: Paths, graves: Callable[[], Graves], bus: Bus[AnyDashboardEvent], clock: Clock
    ) -> None:
        self._paths = paths
        self._graves = graves
        self._bus = bus
        self._clock = clock
        self._sizes: dict[tuple[str, int | None], int] = {}
        self._changed = anyio.Event()
        bus.tap(self._hear)

    def now(self) -> list[Tombstone]:
        """All of them, by name. From memory."""
        graves = self._graves()
        return [
            Tombstone(name=name, size_bytes=self._sizes.get((name, at)), destroyed_at=at)
            for name in graves.tombstones()
            for at in [graves.destroyed_at(name)]
        ]

    async def run(self) -> None:
        """Measures those that are new, for ever."""
        await self._clock.sleep(FIRST_SECONDS)
        while True:
            self._changed = anyio.Event()
            if await self._measure_new():
                self._bus.publish(TombstonesChanged())
            await self._changed.wait()

    async def _measure_new(self) -> bool:
        there = {(tomb.name, tomb.destroyed_at) for tomb in self.now()}
        self._sizes = {key: size for key, size in self._sizes.items() if key in there}
        new = there - self._sizes.keys()
        for key in sorted(new, key=str):
            try:
                self._sizes[key] = await anyio.to_thread.run_sync(self._size, AgentName(key[0]))
            except OSError as error:
                log.warning("tombstone_not_measured agent=%s error=%s", key[0], error)
        return bool(new)

    def _size(self, name: AgentName) -> int:
        paths = self._paths
        places = (paths.agent_dir(name), paths.proposed / name, paths.applied_repo(name))
        return sum(measure(place).size for place in places)

    def _hear(self, event: AnyDashboardEvent) -> None:
        if isinstance(event, TombstonesChanged):
            self._changed.set()
