"""What of a request may pass the gateway, and what of a reply comes back. Pure.

Paths are an allow-list. Headers lose whatever authenticates, names a host or belongs to one connection only: the key is
the gateway's to add.
"""

import re
from collections.abc import Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

MESSAGES: Final = b"/v1/messages"
FORWARDED: Final = frozenset({(b"POST", MESSAGES), (b"POST", b"/v1/messages/count_tokens")})
GREETINGS: Final = frozenset((method, path) for method in (b"HEAD", b"GET") for path in (b"/", b"/api/hello"))
"""What the CLI asks to find out whether anybody is there. The gateway answers these itself."""

KEY_CHECK: Final = b'{"model":"key-check","max_tokens":1,"messages":[{"role":"user","content":"."}]}'
KEY_CHECK_HEADERS: Final = ((b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01"))
"""A request of the gateway's own, for a model that does not exist."""

_SECRET: Final = re.compile(rb"auth|api-?key|cookie|token|secret|password")
_OWN: Final = frozenset(
    {
        b"accept-encoding", b"connection", b"content-length", b"expect", b"forwarded", b"host", b"keep-alive",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via",
    }
)  # fmt: skip
_KEPT_FROM_BOX: Final = frozenset({b"set-cookie", b"alt-svc", b"strict-transport-security"})
_OAUTH: Final = b"oauth-"


def path_of(target: bytes) -> bytes:
    """The path of a request's target. What is no plain path is on no list."""
    return target.partition(b"?")[0]


def to_upstream(headers: Headers, *, host: bytes, key: str, length: int) -> list[tuple[bytes, bytes]]:
    """The headers of a forwarded request, with the account's key instead of whatever came with it."""
    kept = [(name, value) for name, value in headers if _may_pass(name, headers)]
    kept = [(name, _without_oauth(value) if name == b"anthropic-beta" else value) for name, value in kept]
    return [
        (b"host", host),
        *((name, value) for name, value in kept if value),
        (b"x-api-key", key.encode()),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"%d" % length),
    ]


def to_client(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of a reply as the box gets them; the body's length only where it is known to stay what it is."""
    gone = {*_OWN, *_KEPT_FROM_BOX, *_of_connection(headers)} - {b"content-length"}
    return [(name, value) for name, value in headers if name not in gone]


def framed_twice(headers: Headers) -> bool:
    """Whether a request gives its length in two ways: which of them counts is what smuggling is made of."""
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


def declared_length(headers: Headers) -> int | None:
    """The length that a request's headers give its body; None where they give none."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _may_pass(name: bytes, headers: Headers) -> bool:
    own = name in _OWN or name.startswith((b"x-forwarded", b"proxy-")) or name in _of_connection(headers)
    return not own and _SECRET.search(name) is None


def _of_connection(headers: Headers) -> set[bytes]:
    named = b",".join(value for name, value in headers if name == b"connection")
    return {word.strip().lower() for word in named.split(b",")}


def _without_oauth(value: bytes) -> bytes:
    """Betas that change how a request authenticates would make the API refuse a good key."""
    return b",".join(one for one in value.split(b",") if not one.strip().startswith(_OAUTH))
