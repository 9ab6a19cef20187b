"""Tasks that outlive the task which started them.

An anyio task group must be left by the task that entered it; a notebook opens a hive in one cell and closes it in
another, each a task of its own. `Background` keeps the group in a task of its own, and is the one place that needs
asyncio itself for it. A task that fails is logged and takes no other with it.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

try:
    import sniffio
except ImportError:  # without it anyio asks asyncio itself
    sniffio = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


def callback_context() -> contextvars.Context:
    """This context, as one for callbacks of the loop: anyio knows in it where it is.

    sniffio, where some library brings it, tells it by the running task, and a callback has none.
    """
    context = contextvars.copy_context()
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


class Background:
    """A task group with a life of its own.

    `start` before use; `aclose` cancels what still runs and returns when all has ended. Both from any task.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._group: TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> "Background":
        """Make it ready for `spawn`."""
        ready = anyio.Event()
        self._task = asyncio.get_running_loop().create_task(self._host(ready), name=self._name)
        await ready.wait()
        return self

    @property
    def is_open(self) -> bool:
        """It takes work: it was started, and not closed."""
        return self._group is not None

    def spawn(self, work: Callable[[], Awaitable[None]], name: str) -> anyio.CancelScope:
        """Run `work` until it ends; the scope cancels it. Also from a callback of the loop.

        Raises:
            RuntimeError: not started, or closed already.
        """
        if self._group is None:
            raise RuntimeError(f"{self._name} is not open")
        return callback_context().run(self._begin, self._group, work, name)

    def _begin(self, group: TaskGroup, work: Callable[[], Awaitable[None]], name: str) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        group.start_soon(self._supervise, work, name, scope, name=name)
        return scope

    async def aclose(self) -> None:
        """Cancel everything and wait for its end. Any number of times."""
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
        if self._task is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def _host(self, ready: anyio.Event) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            ready.set()
            await anyio.sleep_forever()

    async def _supervise(
        self, work: Callable[[], Awaitable[None]], name: str, scope: anyio.CancelScope
    ) -> None:
        try:
            with scope:
                await work()
        except Exception:  # supervisor: one task's bug must not end its siblings
            log.exception("background_task_failed task=%s", name)
