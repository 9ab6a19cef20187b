"""What one peer may hold of the server. The defaults are the product's; tests pass smaller ones."""

import msgspec

from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds against a peer that floods, stalls or never finishes a line (security: S3).

    Times are seconds. `frame`: from a line's first byte to its newline. `stall`: how long a peer may leave replies
    unread. `linger`: how long a refused peer may go on writing before it is cut off. `in_flight`: requests of one
    connection that run at once; `backlog_*`: what is read ahead beyond them before reading stops.
    """

    connections: int = 8
    host_connections: int = 64
    in_flight: int = 32
    backlog_lines: int = 256
    backlog_bytes: int = REQUEST_LINE_MAX_BYTES
    frame: float = 10.0
    stall: float = 60.0
    linger: float = 2.0
