"""The hive's past."""

from typing import Protocol

from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


class Past(Protocol):
    """Who remembers it."""

    async def page(self, before: str | None = None, limit: int = 200) -> p.HivePast:
        """Raises BadRequest: `before` is nothing that a page said."""
        ...


def past(history: Past) -> dict[type[r.Request], Handler]:
    """One request."""

    async def page(caller: Caller, request: r.History) -> p.Reply:
        del caller
        return await history.page(request.before, request.limit)

    return {r.History: page}
