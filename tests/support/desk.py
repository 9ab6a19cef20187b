"""A small hive for the command line's tests: the real sockets and dispatcher, with handlers of the test's choice."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from hyperhive.names import OPERATOR
from hyperhive.protocol.dispatch import Dispatcher, Frames, Handler
from hyperhive.protocol.policy import Actor, Caller
from hyperhive.protocol.replies import Reply
from hyperhive.protocol.requests import Request, Subscribe
from hyperhive.sockets import SocketServer


def answers(reply: Reply) -> Handler:
    """A handler that always gives this reply."""

    async def handler(caller: Caller, request: Request) -> Reply:
        del caller, request
        return reply

    return handler


def raises(error: Exception) -> Handler:
    """A handler that always fails so."""

    async def handler(caller: Caller, request: Request) -> Reply:
        del caller, request
        raise error

    return handler


def does(act: Callable[[Request], Awaitable[Reply]]) -> Handler:
    """A handler that gives what `act` makes of the request."""

    async def handler(caller: Caller, request: Request) -> Reply:
        del caller
        return await act(request)

    return handler


@asynccontextmanager
async def desk(
    run_dir: Path,
    handlers: Mapping[type[Request], Handler],
    frames: Callable[[str], AsyncIterator[bytes]] | None = None,
) -> AsyncIterator[SocketServer]:
    """Serves the operator's socket in `run_dir` until the block is left."""

    @asynccontextmanager
    async def stream(caller: Caller, request: Subscribe) -> AsyncIterator[Frames]:
        del caller
        assert frames is not None
        yield frames(request.stream)

    server = SocketServer(Dispatcher(handlers, stream))
    await server.listen(run_dir / "host.sock", Actor(name=OPERATOR, role="operator", channel="host"))
    try:
        yield server
    finally:
        await server.aclose()
