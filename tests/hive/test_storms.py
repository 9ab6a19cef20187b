"""A reply storm in a whole hive: two scripted agents that answer each other for ever, under the loop breaker."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from hyperhive.client import RemoteHive
from hyperhive.errors import BadRequest
from hyperhive.host import Hive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, Ok

HOPS = 6
FOR_EVER = """[agents.{0}.env]\nHYPERHIVE_SCRIPTED = '[[call send {{"to": "{1}", "body": "and you?"}}]]'\n"""


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """Alice answers whatever she is told by writing to bob, and bob likewise."""
    agents = FOR_EVER.format("alice", "bob") + FOR_EVER.format("bob", "alice")
    Path(environ["HYPERHIVE_CONFIG"]).write_text(f"hop_limit = {HOPS}\n{agents}")
    return environ


async def until(operator: RemoteHive, true: Callable[[], Awaitable[bool]]) -> None:
    """Looks again whenever something happens."""
    with anyio.fail_after(40):
        async with operator.events("hive") as frames:
            async for _ in frames:
                if await true():
                    return


async def at_rest(hive: Hive) -> bool:
    """Nothing waits and nothing is in a turn, but at the operator's."""
    counts = await hive.broker.counts()
    return not any(one.pending + one.in_flight for name, one in counts.items() if name != "operator")


async def bodies(hive: Hive) -> int:
    """How many of the two agents' messages the broker has, whatever became of them."""
    rows = [row for name in ("alice", "bob") for row in await hive.broker.recent(name, 100)]
    return sum(row.body == "and you?" for row in rows)


async def test_a_storm_stops_within_its_limits_goes_on_when_released_and_ends_when_dropped(
    hive: Hive, operator: RemoteHive
) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.spawn("bob")
    first = await operator.broker.send("operator", "alice", "ask bob how he is, and never stop")

    async def stopped() -> bool:
        return await at_rest(hive) and bool(await hive.broker.questions.open("operator"))

    await until(operator, stopped)
    [question] = await hive.broker.questions.open("operator")
    assert (
        f"message {first.id} from operator to alice ('ask bob how he is, and never stop')"
        in question.question
    )
    assert f"the limit being {HOPS}" in question.question
    assert await bodies(hive) == HOPS + 1  # the last of them is held
    status = await operator.request(r.Status())
    assert isinstance(status, HiveStatus)
    assert status.hive.held == 1

    with pytest.raises(BadRequest):
        await operator.request(r.Answer(id=question.id, answer="let me think"))
    assert isinstance(await operator.request(r.Answer(id=question.id, answer="release")), Ok)
    await until(operator, stopped)
    assert await bodies(hive) == 2 * HOPS + 1
    [again] = await hive.broker.questions.open("operator")
    assert again.id != question.id

    assert isinstance(await operator.request(r.Answer(id=again.id, answer="drop")), Ok)
    await until(operator, lambda: at_rest(hive))
    assert await hive.broker.questions.open("operator") == []
    assert await bodies(hive) == 2 * HOPS + 1
    [letter] = await hive.broker.dead()
    assert "ended its chain of messages" in (letter.reason or "")
    told = [row for row in await hive.broker.recent(letter.sender) if row.sender == "system"]
    assert [f"Your message {letter.id} " in row.body for row in told] == [True]
