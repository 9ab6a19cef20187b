"""Headers of every answer: what the browser may do with it. Strict, and the same everywhere.

Scripts, styles, workers and connections are our own origin's; no frame, no form to elsewhere, no text becomes markup
but through the named Trusted Types policies. `style-src-attr` is there for charts, which place their bars by it.
"""

from typing import Final

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "style-src-attr 'unsafe-inline'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "worker-src 'self'",
    "manifest-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types hive-markdown hive-worker dompurify",
)
CSP: Final = "; ".join(_POLICY)

ALWAYS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)

NO_STORE: Final = (b"cache-control", b"no-store")
"""Where an answer says nothing else about caching."""


def complete(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers, with what every answer has."""
    more = [*ALWAYS, (b"x-request-id", request_id.encode())]
    if not any(name.lower() == b"cache-control" for name, _ in headers):
        more.append(NO_STORE)
    return [*headers, *more]
