"""One action per agent at a time: who asks for a second one is told what is going on.

An action runs to its end in a task of its own, also when whoever asked for it goes away. While it runs its transient
is set, and shown. What the actions do is not known here.
"""

from collections.abc import Awaitable, Callable

import anyio

from hyperhive.background import Background
from hyperhive.bus import Bus
from hyperhive.errors import BugError, Closed, Conflict, HiveError
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyDashboardEvent, TransientCleared, TransientSet
from hyperhive.protocol.types import TransientName


class _Running:
    def __init__(self, what: TransientName) -> None:
        self.what = what
        self.done = anyio.Event()
        self.error: HiveError | None = None


class Actions:
    """The actions that are going on."""

    def __init__(
        self, bus: Bus[AnyDashboardEvent], background: Background, touch: Callable[[AgentName], None]
    ) -> None:
        self._bus = bus
        self._background = background
        self._touch = touch
        self._running: dict[AgentName, _Running] = {}
        self.closed = anyio.Event()
        """No further action begins: the hive is stopping."""

    def current(self, name: AgentName) -> TransientName | None:
        """What is going on with this agent."""
        running = self._running.get(name)
        return running.what if running else None

    def all(self) -> dict[str, TransientName]:
        """What is going on, by agent."""
        return {str(name): running.what for name, running in self._running.items()}

    def close(self) -> None:
        """No further action begins."""
        self.closed.set()

    def check_free(self, name: AgentName) -> None:
        """Refuses where something is going on, or the hive is stopping.

        Raises:
            Conflict: it is; the message says what.
        """
        if self.closed.is_set():
            raise Conflict("the hive is stopping", hint="ask again when it is back")
        if running := self._running.get(name):
            raise Conflict(f"{name} is {running.what} right now", hint="ask again when that is done")

    async def run(self, name: AgentName, what: TransientName, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` as this agent's action, and returns when it has ended.

        Raises:
            Conflict: another one is going on; nothing was done.
            HiveError: what `work` raised.
            Closed: the process stopped before it ended; the next start finishes or undoes it.
        """
        self.check_free(name)
        running = self._running[name] = _Running(what)
        self._bus.publish(TransientSet(agent=name, what=what))
        self._touch(name)
        self._background.spawn(lambda: self._work(name, running, work), f"{what} {name}")
        await running.done.wait()
        if running.error is not None:
            raise running.error

    async def wait(self, name: AgentName) -> None:
        """Waits until nothing is going on with this agent."""
        while running := self._running.get(name):
            await running.done.wait()

    async def wait_all(self) -> None:
        """Waits until nothing is going on at all."""
        for name in list(self._running):
            await self.wait(name)

    async def _work(self, name: AgentName, running: _Running, work: Callable[[], Awaitable[None]]) -> None:
        running.error = Closed(f"the hive stopped while {name} was {running.what}")
        try:
            await work()
            running.error = None
        except HiveError as error:
            running.error = error
        except Exception as error:  # supervisor: whoever asked must be told, and the agent be free again
            running.error = BugError(f"{running.what} {name} failed: {error!r}")
            raise
        finally:
            del self._running[name]
            self._bus.publish(TransientCleared(agent=name))
            self._touch(name)
            running.done.set()
