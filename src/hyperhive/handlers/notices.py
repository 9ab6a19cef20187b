"""Notices: what the operator was told of away from the screens, and whether a channel works."""

import msgspec

from hyperhive.handlers.fitting import fitting
from hyperhive.notices import Notifier
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


def notices(notifier: Notifier) -> dict[type[r.Request], Handler]:
    """The delivery log, and a test of one channel."""

    async def log(caller: Caller, request: r.Notices) -> p.Reply:
        del caller
        if request.test is not None:
            await notifier.test(request.test)
        rows = [
            msgspec.convert(row, p.Notice, from_attributes=True) for row in await notifier.log(request.limit)
        ]
        return p.NoticeRows(notices=rows[: fitting(rows)], channels=notifier.channels())

    return {r.Notices: log}
