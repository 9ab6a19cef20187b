"""The port behind which a connection's MCP session is served.

The socket carries its lines and knows nothing of them but that they are JSON-RPC; `hyperhive.mcp` implements this.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from hyperhive.protocol.policy import Actor

Deliver = Callable[[bytes], Awaitable[None]]
"""Hands one line to the peer. Raises `Closed` where the peer is gone; then it has got nothing of it."""


class SocketToolSession(Protocol):
    """One MCP session of one principal.

    Contract: `serve` runs one message of the client and hands its reply, if it has one, to `deliver`, once. What the
    call handed over (the messages of a `recv`) counts as taken only when `deliver` returned; it goes back when
    `deliver` raised, or when `serve` was cancelled before. It raises only what `deliver` raised. Messages are begun in
    the order of the `serve` calls.
    """

    async def serve(self, message: bytes, deliver: Deliver) -> None: ...

    async def aclose(self) -> None: ...


class SessionOpener(Protocol):
    """Where sessions come from.

    Raises:
        Forbidden: this actor gets no tools.
    """

    async def open_for(self, actor: Actor) -> SocketToolSession: ...
