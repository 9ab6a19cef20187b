"""The application: every route, the guards before them, and what an error becomes.

Imports Litestar, which takes a third of a second: `server` loads this in the background.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec
from litestar import Litestar, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import BaseRouteHandler

from hyperhive.errors import HiveError
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES
from hyperhive.web.front import Answered, Front, Http, request_id
from hyperhive.web.guards import SAFE, Guard
from hyperhive.web.pages import as_response, page_routes, wants_page
from hyperhive.web.problems import MEDIA_TYPE, Problem, problem, problem_of
from hyperhive.web.routes.many import many_route
from hyperhive.web.routes.requests import request_routes
from hyperhive.web.routes.session import admit, session_routes
from hyperhive.web.static_files import StaticFiles

log = logging.getLogger(__name__)

_CODES = {
    401: "not_logged_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "bad_content_type",
}
_SENTENCES = {
    "not_found": "there is nothing at this address",
    "method_not_allowed": "this address does not take this method",
    "too_large": f"the body is longer than {REQUEST_LINE_MAX_BYTES} bytes",
}


def build(
    front: Front,
    hosts: Callable[[], frozenset[str]],
    files: StaticFiles,
    more: Sequence[BaseRouteHandler] = (),
) -> Guard:
    """The application of one hive.

    Args:
        front: the hive.
        hosts: the names that it is known by.
        files: the built pages.
        more: further routes (streams, agents' pages); they are held to the same guards.
    """
    return Guard(routed(front, files, more), hosts)


def routed(front: Front, files: StaticFiles, more: Sequence[BaseRouteHandler] = ()) -> Litestar:
    """All routes, behind the login, without the other guards."""

    async def logged_in(connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        # At the route, which routing has chosen already: no way of writing a path leads past this.
        if not handler.opt.get("public"):
            connection.scope["auth"] = admit(front, connection.scope)

    def failed(request: Http, error: Exception) -> Answered:
        if isinstance(error, NotFoundException) and wants_page(request):
            return as_response(request, files.index, status_code=404)
        told = _told(request, _unless_stranger(front, request, error))
        return Response(msgspec.json.encode(told), media_type=MEDIA_TYPE, status_code=told.status)

    return Litestar(
        route_handlers=[
            *page_routes(files),
            *session_routes(front),
            *request_routes(front),
            many_route(front),
            *more,
        ],
        guards=[logged_in],
        exception_handlers={Exception: failed},
        request_max_body_size=REQUEST_LINE_MAX_BYTES,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _unless_stranger(front: Front, request: Http, error: Exception) -> Exception:
    """What whoever is not logged in is told instead of which routes there are, and what each of them takes."""
    if isinstance(error, MethodNotAllowedException) or (
        isinstance(error, NotFoundException) and request.method not in SAFE
    ):
        try:
            admit(front, request.scope)
        except HiveError as refused:
            return refused
    return error


def _told(request: Http, error: Exception) -> Problem:
    number = request_id(request)
    if isinstance(error, HiveError):
        return problem_of(error, number)
    if isinstance(error, HTTPException) and error.status_code < 500:
        code = _CODES.get(error.status_code, "bad_request")
        return problem(code, _SENTENCES.get(code, error.detail), number)
    log.error("http_request_failed request_id=%s", number, exc_info=error)
    return problem("bug", "this request failed by a bug in the hive; its log has the traceback", number)
