"""The hive itself: who asks, logs, accounts, configuration."""

from hyperhive.handlers.ports import Desk
from hyperhive.names import parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


def itself(desk: Desk) -> dict[type[r.Request], Handler]:
    """The hive itself."""

    async def whoami(caller: Caller, request: r.Whoami) -> p.Reply:
        del request
        return desk.identity(caller)

    async def logs(caller: Caller, request: r.Logs) -> p.Reply:
        del caller
        return await desk.logs(None if request.name is None else parse_resident(request.name), request)

    async def account(caller: Caller, request: r.Account) -> p.Reply:
        del caller
        return await desk.account(request)

    async def reload(caller: Caller, request: r.Reload) -> p.Reply:
        del caller, request
        return await desk.reload()

    return {
        r.Whoami: whoami,
        r.Logs: logs,
        r.Account: account,
        r.Reload: reload,
    }
