"""The pages' own addresses: all of them are the one page, which draws itself by its URL.

Public: nothing on it is anybody's. What it shows it asks for, logged in.
"""

from typing import Final

from litestar import Response
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

from hyperhive.web.front import Http
from hyperhive.web.static_files import File, StaticFiles

PAGES: Final = (
    "/",
    "/login",
    "/needs-you",
    "/approvals",
    "/approvals/{id:int}",
    "/questions",
    "/questions/{id:int}",
    "/inbox",
    "/messages",
    "/search",
    "/agents/{name:str}",
    "/agents/{name:str}/{tab:str}",
    "/agents/{name:str}/t/{turn:str}",
    "/a/{rest:path}",
    "/stats",
    "/config/{name:str}",
    "/logs",
    "/logs/{name:str}",
    "/audit",
    "/dead",
    "/meta",
    "/sessions",
    "/settings",
)

PUBLIC: Final = {"public": True}


def page_routes(files: StaticFiles) -> list[HTTPRouteHandler]:
    """The page at each of its addresses, and the files that it loads."""

    async def page(request: Http) -> Response[bytes]:
        await files.refresh()
        return as_response(request, files.index)

    async def asset(request: Http) -> Response[bytes]:
        found = files.find(request.url.path.lstrip("/"))
        if found is None:
            raise NotFoundException
        return as_response(request, found)

    def public(path: str | list[str], name: str) -> HTTPRouteHandler:
        return HTTPRouteHandler(path, http_method=["GET", "HEAD"], status_code=200, name=name, opt=PUBLIC)

    return [
        public(list(PAGES), "page")(page),
        public("/assets/{path:path}", "asset")(asset),
        public("/{file:str}", "file")(asset),
    ]


def as_response(request: Http, file: File, status_code: int = 200) -> Response[bytes]:
    """A file as it is sent to this browser."""
    headers = {"cache-control": file.cache}
    body = file.body
    if file.packed is not None:
        headers["vary"] = "accept-encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            body = file.packed
    return Response(body, media_type=file.media_type, status_code=status_code, headers=headers)


def wants_page(request: Http) -> bool:
    """Whether a person asked for this address, rather than a program."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "")
