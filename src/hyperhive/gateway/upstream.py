"""The gateway's way to the model's API: where it is, through which proxy, under which certificates.

One pool of connections for a whole hive. TLS trusts the system's authorities, or those that the operator's environment
names, as the CLI itself would. Knows no agents and no keys.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

import anyio
import anyio.to_thread

from hyperhive.errors import BadConfig
from hyperhive.gateway.rules import Headers

if TYPE_CHECKING:
    import httpcore2

log = logging.getLogger(__name__)

DEFAULT_BASE: Final = "https://api.anthropic.com"
BASE_VARIABLE: Final = "ANTHROPIC_BASE_URL"

_CONNECTIONS: Final = None
"""As many as doors let in, which have a bound for each agent: one for all could be used up by a few."""
_KEEP_SECONDS: Final = 30.0
_TIMEOUTS: Final = {"connect": 15.0, "read": 600.0, "write": 60.0, "pool": 30.0}
"""Seconds. A model that thinks sends signs of life; 600 s without one byte is what the CLI itself waits."""


class Unreachable(Exception):
    """The API gave no reply, and why. Nothing of a reply has been passed on yet."""


class Cut(Exception):
    """The reply broke off in the middle."""


class Reply:
    """What the API answers: the head is there, the body comes as it is asked for."""

    def __init__(self, response: "httpcore2.Response") -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers]

    async def body(self) -> AsyncIterator[bytes]:
        """The body, piece by piece, as it comes.

        Raises:
            Cut: it broke off.
        """
        import httpcore2

        try:
            async for piece in self._response.aiter_stream():
                yield piece
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise Cut(str(error)) from error


class Upstream:
    """The API of one hive.

    Args:
        environ: the operator's environment: `ANTHROPIC_BASE_URL`, proxies and CA files are taken from it.

    Raises:
        BadConfig: the address there cannot be used.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.base = environ.get(BASE_VARIABLE) or DEFAULT_BASE
        self._environ = environ
        self._at = _parse(self.base)
        self.host = self._at.netloc.encode()
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._making = anyio.Lock()

    @asynccontextmanager
    async def send(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> AsyncIterator[Reply]:
        """One request. Leaving the context, be it by cancellation, ends it.

        Raises:
            Unreachable: no connection, no reply in time, or one that is no HTTP.
        """
        pool = await self._ready()
        import httpcore2  # which is loaded by now

        url = self._at.geturl().rstrip("/").encode() + target
        request = httpcore2.Request(
            method, url, headers=list(headers), content=body, extensions={"timeout": _TIMEOUTS}
        )
        try:
            response = await pool.handle_async_request(request)
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            httpcore2.ProxyError,
            OSError,
        ) as error:
            raise Unreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        try:
            yield Reply(response)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def preload(self) -> None:
        """Loads what is slow to load, so that the first request need not."""
        try:
            await self._ready()
        except Unreachable as error:
            log.warning("model_api_unreachable error=%s", error)

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _ready(self) -> "httpcore2.AsyncConnectionPool":
        async with self._making:
            if self._pool is None:
                try:
                    self._pool = await anyio.to_thread.run_sync(self._make)
                except OSError as error:  # ssl.SSLError is one
                    raise Unreachable(
                        f"the CA files that the environment names are of no use: {error}"
                    ) from error
                except ValueError as error:
                    raise Unreachable(f"the proxy that the environment names is of no use: {error}") from None
            return self._pool

    def _make(self) -> "httpcore2.AsyncConnectionPool":
        """Blocks: the library is loaded and the certificates are read."""
        import httpcore2

        tls = ssl.create_default_context(
            cafile=self._environ.get("SSL_CERT_FILE") or None,
            capath=self._environ.get("SSL_CERT_DIR") or None,
        )
        if more := self._environ.get("NODE_EXTRA_CA_CERTS"):
            tls.load_verify_locations(cafile=more)
        proxy = proxy_for(self._at, self._environ)
        return httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=_CONNECTIONS,
            keepalive_expiry=_KEEP_SECONDS,
        )


def proxy_for(at: SplitResult, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for this address, if any."""
    named = [f"{at.scheme}_proxy", f"{at.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    found = next((environ[name] for name in named if environ.get(name)), None)
    beside = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if found is None or _goes_direct(at.hostname or "", beside):
        return None
    return found if "://" in found else f"http://{found}"


def _goes_direct(host: str, beside: str) -> bool:
    """Whether a list like `localhost,.example.org` names this host or a domain above it."""
    names = [word.strip().lower().rpartition(":")[0] or word.strip().lower() for word in beside.split(",")]
    names = [name.removeprefix("*").removeprefix(".") for name in names if name]
    return any(name in {"", host} or host.endswith(f".{name}") for name in names)


def _proxy(url: str) -> "httpcore2.Proxy":
    import httpcore2

    at = urlsplit(url)
    if at.scheme not in {"http", "https"}:
        raise ValueError("only http and https are spoken with one")
    auth = None if at.username is None else (unquote(at.username), unquote(at.password or ""))
    host = f"[{at.hostname}]" if ":" in (at.hostname or "") else at.hostname
    port = at.port or (443 if at.scheme == "https" else 80)
    return httpcore2.Proxy(f"{at.scheme}://{host}:{port}", auth=auth)


def _parse(base: str) -> SplitResult:
    try:
        at = urlsplit(base)
        good = at.scheme in {"http", "https"} and at.hostname and at.username is None and at.port != 0
    except ValueError:
        good = False
        at = urlsplit("")
    if not good:
        raise BadConfig([f"{BASE_VARIABLE} is no http or https address without a user name in it"])
    return at._replace(query="", fragment="")
