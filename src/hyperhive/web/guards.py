"""What stands before every route: which names we are reached by, and who may make a browser send what changes things.

- Host: one of an exact list, with the port, on every request (DNS rebinding).
- Method: one that some route takes; no other is answered, and so no preflight either.
- Every method but GET and HEAD: Origin on the same list, Sec-Fetch-Site `same-origin` or `none`, content type
  application/json (cross-site requests). No route can be left out: this knows none.

Who is logged in is checked at the route (`app.logged_in`), where no spelling of a path can miss it.
"""

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from hyperhive.errors import HiveError, RequestError
from hyperhive.web.headers import complete
from hyperhive.web.problems import MEDIA_TYPE, Problem, problem_of

SAFE: Final = frozenset({"GET", "HEAD"})
TAKEN: Final = SAFE | {"POST", "DELETE"}
REQUEST_ID: Final = "request_id"
"""Where a request's id stands in the state of its scope."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


def allowed_hosts(host: str, port: int, more: tuple[str, ...]) -> frozenset[str]:
    """The values of `Host` that are ours: loopback's names and the address we listen on, with the port; and `more`."""
    names = set(_LOOPBACK)
    if host not in {"0.0.0.0", "::", ""}:  # noqa: S104 (compared, not bound)
        names.add(f"[{host}]" if ":" in host else host)
    found = {f"{name}:{port}" for name in names} | set(more)
    if port == 80:
        found |= names
    return frozenset(name.lower() for name in found)


class Guard:
    """An ASGI application that lets to `app` only what may go there, and completes every answer's headers."""

    def __init__(self, app: ASGIApp, hosts: Callable[[], frozenset[str]]) -> None:
        self.app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != ScopeType.HTTP:
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})[REQUEST_ID] = request_id

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = complete(list(message.get("headers", ())), request_id)
            await send(message)

        try:
            check(scope, self._hosts())
        except HiveError as error:
            await answer(send_complete, problem_of(error, request_id))
            return
        await self.app(scope, receive, send_complete)


def check(scope: HTTPScope, hosts: frozenset[str]) -> None:
    """Whether a request may go on.

    Raises:
        RequestError: with code `bad_host`, `method_not_allowed`, `bad_origin` or `bad_content_type`.
    """
    host = _only(scope, b"host")
    if host is None or host.lower() not in hosts:
        raise RequestError(
            f"the hive is not known as {(host or 'nothing')[:100]!r}",
            hint="reach it as localhost with its port, or list this name under allowed_hosts in hive.toml",
            code="bad_host",
        )
    if scope["method"] not in TAKEN:
        raise RequestError("the hive does not take this method", code="method_not_allowed")
    if scope["method"] in SAFE:
        return
    origin = (_only(scope, b"origin") or "").lower()
    scheme, _, name = origin.partition("://")
    if scheme not in {"http", "https"} or name not in hosts:
        raise _foreign("Origin")
    site = _only(scope, b"sec-fetch-site")
    # Browsers leave it out where a page came by plain http from another machine; the Origin has been checked.
    if site not in {"same-origin", "none"} and not (
        site is None and scheme == "http" and not _is_loopback(name)
    ):
        raise _foreign("Sec-Fetch-Site")
    kind = (_only(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            "the body must be JSON", hint="content-type: application/json", code="bad_content_type"
        )


async def answer(send: Send, told: Problem) -> None:
    """Sends an error, complete."""
    body = msgspec.json.encode(told)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if told.status in {408, 413}:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _only(scope: HTTPScope, name: bytes) -> str | None:
    """The one header of this name; None where there is none, or more than one."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _is_loopback(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}:") for known in _LOOPBACK)


def _foreign(header: str) -> RequestError:
    return RequestError(
        f"this request does not come from the hive's own pages ({header})",
        hint="open the hive by a name that it knows; see allowed_hosts in hive.toml",
        code="bad_origin",
    )
