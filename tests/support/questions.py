"""What tests of questions look at: the mail about them, and their end."""

import math

import anyio
import msgspec

from hyperhive.broker import Broker


async def told(broker: Broker, name: str) -> list[dict[str, object]]:
    """The helper events in somebody's inbox, which is empty afterwards."""
    mail = await broker.recv(name, max=32, wait_seconds=0)
    await broker.ack_turn(name)
    return [msgspec.json.decode(one.body) for one in mail]


async def resolved(broker: Broker, *numbers: int) -> None:
    """Waits until these are resolved, in no time of the test's clock."""
    with anyio.fail_after(20):
        for number in numbers:
            assert await broker.questions.resolution(number, math.inf) is not None
