"""The model: how a harness's agent stands with it."""

from hyperhive.handlers.ports import Models
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


def models(gateway: Models) -> dict[type[r.Request], Handler]:
    """What the model gateway is asked by harnesses."""

    async def model_access(caller: Caller, request: r.ModelAccess) -> p.Reply:
        return await gateway.wait_for_standing(caller.name, request.wait_seconds)

    return {r.ModelAccess: model_access}
