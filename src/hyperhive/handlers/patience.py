"""Refusals by a limit reach one sender no faster than the gate lets them: see `Gate.linger`."""

from typing import Any

from hyperhive.broker.limits import Gate
from hyperhive.errors import LimitReached
from hyperhive.protocol.dispatch import Answer, Handler
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.replies import Reply


def patient(handler: Handler, gate: Gate) -> Handler:
    """The same handler, whose refusals wait for their turn."""

    async def answer(caller: Caller, request: Any) -> Reply | Answer:  # noqa: ANN401 - as `Handler` has it
        try:
            return await handler(caller, request)
        except LimitReached:
            await gate.linger(caller.name)
            raise

    return answer
