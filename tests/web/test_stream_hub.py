"""One browser's stream: what it carries, how many there may be, and what becomes of those that nobody reads."""

from collections.abc import AsyncIterator

import anyio
import pytest

from hyperhive.bus import Bus
from hyperhive.errors import LimitReached, NotFound
from hyperhive.protocol.events import Stream
from hyperhive.protocol.live import encode_live
from hyperhive.testing import FakeClock
from hyperhive.web.streaming import Hub, HubLimits
from hyperhive.web.streaming.feed import FRAME_MAX_BYTES, Feed
from hyperhive.web.streaming.hub import HEARTBEAT_SECONDS, KEEP_SECONDS, STUCK_SECONDS
from hyperhive.web.streaming.stream import RING_BYTES
from stream_world import Core, Page, events_in

LIMITS = HubLimits(of_one=3, in_all=5, names=3)


@pytest.fixture
def core() -> Core:
    return Core("hive", "alice", "bob")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def hub(core: Core, clock: FakeClock) -> AsyncIterator[Hub]:
    hub = await core.hub(clock, LIMITS).start()
    yield hub
    await hub.aclose()


async def test_a_stream_carries_what_was_asked_for_and_nothing_else(core: Core, hub: Hub) -> None:
    page = Page(core, "hive")
    connection = await hub.open("me", None, ["hive"])
    await page.read(connection, until_quiet=False)
    core.publish("alice", 1, "not for us")
    assert await hub.subscribe("me", page.stream_id, ["bob"], ["hive"]) == {"bob": 0}
    page.wanted = ["bob"]
    core.publish("hive", 1, "no more")
    core.publish("bob", 1, "yes")
    await page.until_level(connection)
    assert page.state == {"hive": {}, "bob": {1: "yes"}}


async def test_an_answer_says_from_where_on_frames_come(core: Core, hub: Hub) -> None:
    page = Page(core)
    connection = await hub.open("me")
    await page.read(connection, until_quiet=False)
    for number in range(5):
        core.publish("alice", number, "before")
    streams = await hub.subscribe("me", page.stream_id, ["alice"], [])
    page.seqs, page.wanted = dict(streams), ["alice"]
    core.publish("alice", 9, "after")
    await page.until_level(connection)
    assert page.gaps == 0
    assert page.state["alice"][9] == "after"


async def test_each_stream_of_the_core_is_read_once_and_only_while_it_is_shown(core: Core, hub: Hub) -> None:
    connections = [await hub.open(f"login {number}", None, ["hive", "alice"]) for number in range(4)]
    assert hub.statistics()["feeds"] == 2
    await anyio.wait_all_tasks_blocked()
    assert core.buses["hive"].statistics().subscribers == 1
    for number in range(4):
        hub.drop_owner(f"login {number}")
    await anyio.wait_all_tasks_blocked()
    assert hub.statistics() == {"streams": 0, "connected": 0, "feeds": 0}
    assert core.buses["hive"].statistics().subscribers == 0
    assert all(connection.ended for connection in connections)


async def test_a_name_that_nobody_has_is_refused_and_changes_nothing(core: Core, hub: Hub) -> None:
    page = Page(core)
    connection = await hub.open("me", None, ["hive"])
    await page.read(connection, until_quiet=False)
    with pytest.raises(NotFound, match="carol"):
        await hub.subscribe("me", page.stream_id, ["alice", "carol"], ["hive"])
    assert await hub.subscribe("me", page.stream_id, [], []) == {"hive": 0}
    await anyio.wait_all_tasks_blocked()
    assert hub.statistics()["feeds"] == 1


async def test_coming_back_for_an_agent_that_is_gone_is_told_not_refused(core: Core, hub: Hub) -> None:
    page = Page(core, "hive", "alice")
    await page.read(await hub.open("me", None, page.wanted), until_quiet=False)
    core.destroy("alice")
    connection = await hub.open("me", "of another core:5", page.wanted)
    await page.read(connection)
    assert (page.gaps, page.ended) == (1, ["alice"])


async def test_a_destroyed_agent_ends_its_stream_and_no_other(core: Core, hub: Hub) -> None:
    page = Page(core, "hive", "alice")
    connection = await hub.open("me", None, page.wanted)
    await page.read(connection, until_quiet=False)
    core.publish("alice", 1, "last words")
    core.destroy("alice")
    core.publish("hive", 1, "goes on")
    await page.read(connection)
    assert page.ended == ["alice"]
    assert page.state == {"hive": {1: "goes on"}, "alice": {1: "last words"}}
    assert await hub.subscribe("me", page.stream_id, [], []) == {"hive": 1}


async def test_streams_of_another_login_are_not_there(core: Core, hub: Hub) -> None:
    page = Page(core, "hive")
    connection = await hub.open("me", None, ["hive"])
    await page.read(connection, until_quiet=False)
    with pytest.raises(NotFound):
        await hub.subscribe("another", page.stream_id, ["alice"], [])
    theirs = await hub.open("another", page.last_id, ["hive"])
    assert b'"resume":"gap"' in await theirs.read()
    assert theirs.stream is not connection.stream
    assert not connection.ended


async def test_a_login_has_so_many_streams_and_takes_nobody_elses_place(core: Core, hub: Hub) -> None:
    for _ in range(LIMITS.of_one):
        await hub.open("me")
    with pytest.raises(LimitReached, match="of one login"):
        await hub.open("me")
    await hub.open("another")
    await hub.open("another")
    with pytest.raises(LimitReached, match="in all"):
        await hub.open("another")
    with pytest.raises(LimitReached, match="names"):
        await hub.open("me", None, ["a", "b", "c", "d"])
    del core


async def test_a_stream_that_nobody_reads_gives_its_place_up(core: Core, hub: Hub) -> None:
    connections = [await hub.open("me") for _ in range(LIMITS.of_one)]
    hub.left(connections[1])
    await hub.open("me")
    assert [connection.stream.over for connection in connections] == [False, True, False]
    del core


async def test_a_stream_is_kept_for_a_while_and_then_forgotten(
    core: Core, hub: Hub, clock: FakeClock
) -> None:
    connection = await hub.open("me", None, ["hive"])
    hub.left(connection)
    await clock.advance(KEEP_SECONDS - 2 * HEARTBEAT_SECONDS)
    assert hub.statistics()["streams"] == 1
    await clock.advance(3 * HEARTBEAT_SECONDS)
    assert hub.statistics() == {"streams": 0, "connected": 0, "feeds": 0}
    del core


async def test_heartbeats_come_to_all_from_one_timer(core: Core, hub: Hub, clock: FakeClock) -> None:
    pages = [Page(core, "hive") for _ in range(3)]
    connections = [await hub.open("me", None, page.wanted) for page in pages]
    for page, connection in zip(pages, connections, strict=True):
        await page.read(connection, until_quiet=False)
    for _ in range(2):
        await clock.advance(HEARTBEAT_SECONDS)
        for page, connection in zip(pages, connections, strict=True):
            await page.read(connection, until_quiet=False)
    assert [page.heartbeats for page in pages] == [2, 2, 2]
    assert clock.sleepers == 1


async def test_who_does_not_read_misses_and_is_told_and_nobody_else_is(core: Core, hub: Hub) -> None:
    core.buses["hive"] = Bus(keep=10_000, buffer=10_000)
    slow, quick = Page(core, "hive"), Page(core, "hive")
    sleeping = await hub.open("slow", None, ["hive"])
    await slow.read(sleeping, until_quiet=False)
    awake = await hub.open("quick", None, ["hive"])
    await quick.read(awake, until_quiet=False)
    for batch in range(10):
        for number in range(500):
            core.publish("hive", number, f"{batch}")
        await quick.until_level(awake)
    assert (quick.gaps, quick.applied["hive"]) == (0, list(range(1, 5001)))
    assert len(sleeping.stream.ring) <= 2000
    await slow.until_level(sleeping)
    assert slow.gaps == 1
    assert slow.state["hive"] == quick.state["hive"] == core.state["hive"]


async def test_a_ring_is_bounded_in_bytes(core: Core, hub: Hub) -> None:
    connection = await hub.open("me", None, ["hive"])
    for number in range(20):
        core.publish("hive", number, "x" * (RING_BYTES // 8))
    await anyio.wait_all_tasks_blocked()
    assert sum(len(frame) for _, frame in connection.stream.ring) <= RING_BYTES


async def test_a_connection_that_takes_nothing_is_given_up(core: Core, hub: Hub, clock: FakeClock) -> None:
    connection = await hub.open("me", None, ["hive"])
    cut: list[bool] = []
    connection.on_cut = lambda: cut.append(True)
    await clock.advance(STUCK_SECONDS + 2 * HEARTBEAT_SECONDS)
    assert connection.ended
    assert cut == [True]
    assert hub.statistics()["connected"] == 0
    del core


async def test_an_agents_line_can_name_no_other_stream_and_no_other_number(core: Core, hub: Hub) -> None:
    """What the CLI prints is the agent's to choose: not whose stream it is on."""
    del core, hub
    forged = b'{"type":"x","stream":"hive","seq":7,"kind":"approval_added"}'
    feed = Feed("alice", lambda _: pytest.fail("not opened"), lambda _: None)
    [(_, event)] = events_in(b"data: " + feed.frame(encode_live(Stream(line=forged), seq=3)) + b"\n\n")
    assert (event["stream"], event["seq"], event["kind"]) == ("alice", 3, "stream")
    assert (
        feed.frame(encode_live(Stream(line=forged), seq=3)).count(b'"stream":') == 2
    )  # one is below `_line`


async def test_a_frame_that_is_too_long_is_a_note_that_says_so() -> None:
    feed = Feed("alice", lambda _: pytest.fail("not opened"), lambda _: None)
    long = encode_live(Stream(line=b'{"type":"' + b"x" * FRAME_MAX_BYTES + b'"}'), seq=3)
    [(_, event)] = events_in(b"data: " + feed.frame(long) + b"\n\n")
    assert (event["kind"], event["seq"], event["stream"]) == ("note", 3, "alice")


async def test_a_stream_of_one_name_is_numbered_as_the_core_numbers_it(core: Core, hub: Hub) -> None:
    core.publish("alice", 1, "one")
    core.publish("alice", 2, "two")
    connection = await hub.open_one("me", "alice")
    [(first, head)] = events_in(await connection.read())
    epoch = str(first).partition(":")[0]
    assert (first, head) == (f"{epoch}:2", {"kind": "resume", "resume": "new", "id": f"{epoch}:2"})
    core.publish("alice", 3, "three")
    [(last, event)] = events_in(await connection.read())
    assert (last, event["seq"], event["id"]) == (f"{epoch}:3", 3, 3)
    again = await hub.open_one("me", "alice", f"{epoch}:1")
    data = await again.read() + await again.read()
    assert [number for number, _ in events_in(data)] == [f"{epoch}:1", f"{epoch}:2", f"{epoch}:3"]
    core.destroy("alice")
    with anyio.fail_after(5):
        assert await again.read() == b""
        assert await connection.read() == b""
    with pytest.raises(NotFound):
        await hub.open_one("me", "alice")


async def test_a_frame_is_encoded_once_for_all(core: Core, hub: Hub) -> None:
    connections = [await hub.open(f"login {number}", None, ["hive"]) for number in range(5)]
    core.publish("hive", 1, "one")
    await anyio.wait_all_tasks_blocked()
    frames = [connection.stream.ring[0][1] for connection in connections]
    assert all(frame is frames[0] for frame in frames)
