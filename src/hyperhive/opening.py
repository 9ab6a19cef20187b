"""One way to open things: `async with X.open(...) as x`, or `x = await X.open(...)` and later `await x.aclose()`.

The second form holds nothing of the task that opened it, so that it may be closed from another task (two cells of a
notebook). Opens nothing itself.
"""

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Contract: `aclose` may be called from any task, and any number of times."""

    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closable)


class Opening(Generic[T]):
    """What an `open` classmethod returns: await it, or enter it. Nothing happens before that."""

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self._start = start
        self._opened: T | None = None

    def __await__(self) -> Generator[object, None, T]:
        return self._start().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._start()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()
