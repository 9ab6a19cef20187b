"""Who may use the operator's pages: links that log a browser in, and the sessions that there are."""

from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller
from hyperhive.web_access import WebAccess


def web_access(access: WebAccess) -> dict[type[r.Request], Handler]:
    """Links and sessions."""

    async def login_link(caller: Caller, request: r.LoginLink) -> p.Reply:
        del caller
        return access.link(request.ref)

    async def web_sessions(caller: Caller, request: r.WebSessions) -> p.Reply:
        del caller, request
        return p.WebSessionRows(sessions=access.sessions())

    async def end_web_session(caller: Caller, request: r.EndWebSession) -> p.Reply:
        del caller
        await access.end(request.id)
        return p.Ok(id=request.id)

    return {r.LoginLink: login_link, r.WebSessions: web_sessions, r.EndWebSession: end_web_session}
