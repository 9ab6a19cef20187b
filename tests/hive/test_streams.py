"""Streams: they open with where they stand, replay what is still known, and say where something is missing."""

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from hyperhive.bus import Bus
from hyperhive.errors import BadRequest, NotFound
from hyperhive.names import OPERATOR
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import MessageState
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.requests import Subscribe
from hyperhive.streams import Source, Streams

CALLER = Caller(name=OPERATOR, channel="host", any=True, label="operator")


def make(bus: Bus[MessageState], epoch: str = "e1") -> Streams:
    source = Source(bus, lambda frame: encode(msgspec.structs.replace(frame.event, seq=frame.seq)))
    return Streams(epoch, lambda name: source if name == "hive" else None)


async def take(frames: AsyncIterator[bytes], count: int) -> list[dict[str, object]]:
    with anyio.fail_after(5):
        return [msgspec.json.decode(await anext(frames)) for _ in range(count)]


def publish(bus: Bus[MessageState], *ids: int) -> None:
    for number in ids:
        bus.publish(MessageState(id=number, state="pending"))


async def test_a_new_reader_gets_what_happens_from_then_on() -> None:
    bus: Bus[MessageState] = Bus()
    publish(bus, 1)
    async with make(bus).open(CALLER, Subscribe(stream="hive")) as frames:
        publish(bus, 2)
        assert await take(frames, 2) == [
            {"kind": "resume", "resume": "new", "id": "e1:1"},
            {"kind": "message_state", "seq": 2, "id": 2, "state": "pending"},
        ]


async def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    bus: Bus[MessageState] = Bus()
    publish(bus, 1, 2, 3)
    async with make(bus).open(CALLER, Subscribe(stream="hive", after="e1:1")) as frames:
        head, *rest = await take(frames, 3)
    assert head["resume"] == "ok"
    assert [frame["seq"] for frame in rest] == [2, 3]


@pytest.mark.parametrize("after", ["e0:1", "e1:9"])
async def test_another_epoch_or_an_unknown_place_is_a_gap(after: str) -> None:
    bus: Bus[MessageState] = Bus()
    publish(bus, 1)
    async with make(bus).open(CALLER, Subscribe(stream="hive", after=after)) as frames:
        assert (await take(frames, 1))[0]["resume"] == "gap"


async def test_what_is_no_longer_kept_is_a_gap() -> None:
    bus: Bus[MessageState] = Bus(keep=2)
    publish(bus, 1, 2, 3, 4)
    async with make(bus).open(CALLER, Subscribe(stream="hive", after="e1:1")) as frames:
        assert (await take(frames, 1))[0]["resume"] == "gap"


async def test_a_reader_that_falls_behind_is_told_how_many_it_lost() -> None:
    bus: Bus[MessageState] = Bus(buffer=2, keep=2)
    async with make(bus).open(CALLER, Subscribe(stream="hive")) as frames:
        await take(frames, 1)
        publish(bus, 1, 2, 3, 4, 5)
        lagged, *rest = await take(frames, 3)
    assert lagged == {"kind": "lagged", "missed": 3}
    assert [frame["id"] for frame in rest] == [4, 5]


async def test_an_unknown_stream_or_place_is_one_clear_error() -> None:
    streams = make(Bus())
    with pytest.raises(NotFound):
        async with streams.open(CALLER, Subscribe(stream="nobody")):
            pass
    with pytest.raises(BadRequest):
        async with streams.open(CALLER, Subscribe(stream="hive", after="e1:x")):
            pass


async def test_the_stream_ends_with_its_bus() -> None:
    bus: Bus[MessageState] = Bus()
    async with make(bus).open(CALLER, Subscribe(stream="hive")) as frames:
        await take(frames, 1)
        bus.close()
        with anyio.fail_after(5):
            assert [frame async for frame in frames] == []
