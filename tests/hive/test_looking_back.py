"""Finding a message or a tool call by its text in a whole hive, and going from the hit to where it was said."""

import anyio
import anyio.lowlevel

from hyperhive.client import RemoteHive
from hyperhive.host import Hive
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.screens import FlowRow, SearchHit


async def test_a_hit_leads_to_the_message_the_turn_that_read_it_and_the_event(
    hive: Hive, operator: RemoteHive
) -> None:
    await hive.lifecycle.spawn("alice")
    words = '[[call send {"to": "operator", "body": "the giraffe is fed"}]]'
    sent = await operator.broker.send("operator", "alice", words)

    async def search(**asked: str) -> list[SearchHit]:
        reply = await operator.request(r.Search(query='"giraffe is fed"', **asked))  # type: ignore[arg-type]
        assert isinstance(reply, p.SearchHits)
        return reply.hits

    with anyio.fail_after(50):
        while not (events := await search(scope="events")):
            hive.indexer.look_now()
            await anyio.lowlevel.checkpoint()
        while (row := await message(operator, sent.id)).turn is None:
            await hive.bus.next_published()
    assert {hit.agent for hit in events} == {"alice"}
    hit = events[-1]
    assert hit.turn == row.turn
    page = await operator.request(r.Events(name="alice", before=(hit.eid or 0) + 1, limit=1))
    assert isinstance(page, p.EventPage)
    assert "giraffe is fed" in str(page.events[0])
    mail = await search(scope="messages")
    assert {(one.kind, one.sender, one.recipient) for one in mail} == {
        ("message", "operator", "alice"),
        ("message", "alice", "operator"),
    }
    flow = await operator.request(r.Flow(agent="alice", other="operator", q="giraffe"))
    assert isinstance(flow, p.FlowPage)
    assert [one.id for one in flow.rows] == [one.id for one in mail]
    assert (row.state, row.acked_at is not None) == ("acked", True)


async def message(operator: RemoteHive, number: int) -> FlowRow:
    reply = await operator.request(r.Message(id=number))
    assert isinstance(reply, p.OneMessage)
    return reply.message
