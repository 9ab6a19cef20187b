"""Unix sockets: bytes to requests of the socket's own principal, and replies back to bytes.

`server` listens · `files` makes and removes socket files · `connection` is one peer: lines, order, limits ·
`line` the core's end of an attached harness · `tools` the port behind which MCP sessions are served · `limits`.
Decides nothing: who someone is follows from the socket, what they may do from the protocol's table.
"""

from hyperhive.sockets.limits import Limits
from hyperhive.sockets.server import SocketServer
from hyperhive.sockets.tools import SessionOpener, SocketToolSession

__all__ = ["Limits", "SessionOpener", "SocketServer", "SocketToolSession"]
