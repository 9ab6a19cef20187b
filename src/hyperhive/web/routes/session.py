"""Logging in and out. The cookie's name holds the hive's own mark: two hives on one machine log nobody out."""

from collections.abc import Iterator
from typing import Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope

from hyperhive.errors import RequestError
from hyperhive.web.front import Answered, Front, Http, body_as, json
from hyperhive.web_access import SESSION_SECONDS

COOKIE: Final = "hive_session"
SECRET_HEADER: Final = b"x-hive-secret"


class LogIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token of a login link."""

    token: str


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """`secret`: to be sent as `X-Hive-Secret` with every request; it is told here alone. `id`: the session's."""

    secret: str
    id: int
    expires_at: int


_LOG_IN = msgspec.json.Decoder(LogIn)


def session_routes(front: Front) -> list[HTTPRouteHandler]:
    """POST /session, DELETE /session, POST /session/end."""
    name = cookie_name(front)

    async def log_in(request: Http) -> Answered:
        asked = await body_as(request, _LOG_IN, "login")
        begun = await front.access.log_in(asked.token, request.headers.get("user-agent", ""))
        response = json(LoggedIn(secret=begun.secret, id=begun.id, expires_at=begun.expires_at))
        response.set_cookie(
            name,
            begun.cookie,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https://"),
        )
        return response

    async def log_out(request: Http) -> Answered:
        await front.access.end(int(request.scope["auth"]))
        response = json({"ok": True})
        response.delete_cookie(name)
        return response

    return [
        HTTPRouteHandler("/session", http_method="POST", status_code=200, name="logIn", opt={"public": True})(
            log_in
        ),
        HTTPRouteHandler("/session", http_method="DELETE", status_code=200, name="logOut")(log_out),
        HTTPRouteHandler("/session/end", http_method="POST", status_code=200, name="endSession")(log_out),
    ]


def cookie_name(front: Front) -> str:
    """The name of this hive's cookie."""
    return f"{COOKIE}_{front.access.mark}"


def admit(front: Front, scope: Scope) -> int:
    """The session that a request belongs to: by cookie and secret, both.

    Raises:
        RequestError: it belongs to none (code `not_logged_in`).
    """
    secrets = [value.decode("latin-1") for name, value in scope["headers"] if name == SECRET_HEADER]
    for cookie in _cookies(scope, cookie_name(front)) if len(secrets) == 1 else ():
        if (session := front.access.check(cookie, secrets[0])) is not None:
            return session
    raise RequestError(
        "you are not logged in here",
        hint="`hyperhive open` gives a link that logs you in",
        code="not_logged_in",
    )


def _cookies(scope: Scope, name: str) -> Iterator[str]:
    # All of that name: a page at another port of this host can set one beside ours, and must not shut us out by it.
    for header, value in scope["headers"]:
        if header == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                if key == name:
                    yield text
