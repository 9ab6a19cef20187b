"""The sockets that the pages are served on: bound by us, so that an address in use is one clear error.

Where the pages are on loopback they are on both of its addresses: else whoever took the other one, which an agent with
the host's network can, would be what a browser finds behind `localhost`.
"""

import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from hyperhive.errors import Conflict, WorldError

BACKLOG: Final = 512
_TRIES: Final = 20
_LOOPBACK: Final = {"127.0.0.1": "::1", "::1": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Listening:
    """Sockets that listen. `name`: what a browser on this machine calls them, with the port."""

    sockets: list[socket.socket]
    host: str
    port: int
    name: str

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it. Its sockets are open still."""
        return ip_address(self.sockets[0].getsockname()[0].partition("%")[0]).is_loopback


def listen(host: str, port: int, *, exact: bool = True) -> Listening:
    """Listens at an address; port 0 is a free one, and so is one that is in use where it need not be `exact`. Blocks.

    Raises:
        Conflict: the port is in use. WorldError: this machine has no such address, or the port is not for us.
    """
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return _listen(host, port)
    except Conflict:
        if exact or port == 0:
            raise
        return _listen(host, 0)


def _listen(host: str, port: int) -> Listening:
    for _ in range(_TRIES):
        first = _bind(host, port)
        found = int(first.getsockname()[1])
        other = _LOOPBACK.get(host)
        shown = f"[{host}]" if ":" in host else host
        if other is None:
            return Listening([first], host, found, f"{_reachable(shown)}:{found}")
        try:
            return Listening([first, _bind(other, found)], host, found, f"localhost:{found}")
        except Conflict:
            if port:  # ours all the same, but not what `localhost` may lead to
                return Listening([first], host, found, f"{shown}:{found}")
            first.close()
        except WorldError:  # a machine with one family only: nobody else can have the other either
            return Listening([first], host, found, f"localhost:{found}")
    raise Conflict("no port is free on both of loopback's addresses")


def _reachable(shown: str) -> str:
    return "localhost" if shown in {"0.0.0.0", "[::]"} else shown  # noqa: S104 (compared, not bound)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise WorldError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)  # noqa: FBT003 (its only argument)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"another program listens on {host}:{port} already",
                hint="perhaps another hive: `--port 0` takes a free port, HIVE_DASHBOARD_PORT or `listen` in hive.toml "
                "another one",
            ) from error
        raise WorldError(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
    return sock
