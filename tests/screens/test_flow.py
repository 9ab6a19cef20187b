"""Everybody's messages, a page at a time from the newest, with what has become of each."""

import sqlite3

import anyio.to_thread
import pytest

from hyperhive.broker import Broker
from hyperhive.errors import NotFound
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import MessageStateName, Receipt
from hyperhive.screens import flow as flow_module
from hyperhive.screens import index
from hyperhive.screens.flow import Flow
from hyperhive.screens.indexer import Indexer
from hyperhive.screens.words import parse
from hyperhive.testing import FakeClock


@pytest.fixture
def flow(broker: Broker, indexer: Indexer) -> Flow:
    return Flow(broker, indexer)


async def caught_up(indexer: Indexer) -> None:
    while await indexer.step():
        pass


async def ids(
    flow: Flow,
    agent: str | None = None,
    other: str | None = None,
    state: MessageStateName | None = None,
    q: str | None = None,
) -> list[int]:
    """All pages of three."""
    got: list[int] = []
    before = None
    while True:
        page = await flow.page(r.Flow(before=before, limit=3, agent=agent, other=other, state=state, q=q))
        got += [row.id for row in page.rows]
        if not page.more:
            return got
        before = page.rows[-1].id


@pytest.mark.parametrize("indexed", [0, 10])
async def test_nothing_is_left_out_where_the_index_is_far_behind(
    broker: Broker, indexer: Indexer, flow: Flow, monkeypatch: pytest.MonkeyPatch, indexed: int
) -> None:
    monkeypatch.setattr(flow_module, "PAGE", 7)
    sent: list[int] = []
    for number in range(40):
        if number == indexed:
            await caught_up(indexer)
        text = f"rare {number}" if number % 9 == 0 else f"common {number}"
        sent.append((await broker.send("alice", "bob", text)).id)
    assert await ids(flow, agent="alice") == sent[::-1]
    assert await ids(flow, q="common") == [one for place, one in enumerate(sent) if place % 9][::-1]
    assert await ids(flow, q="rare") == sent[::9][::-1]
    assert await ids(flow, q="nowhere") == []


@pytest.mark.parametrize("indexed", [0, 1, 2])
async def test_a_page_shows_whose_messages_were_asked_for_whatever_the_index_has(
    broker: Broker, indexer: Indexer, flow: Flow, indexed: int
) -> None:
    """Nothing of it in the index, all, or the older half."""
    names = ["alice", "bob", "carol"]
    sent: list[tuple[int, str, str, str]] = []
    for number in range(24):
        if number == 12 and indexed == 2:
            await caught_up(indexer)
        sender, recipient = names[number % 3], names[(number // 3 + number + 1) % 3]
        text = f"{'odd' if number % 2 else 'even'} {number}"
        sent.append(((await broker.send(sender, recipient, text)).id, sender, recipient, text))
    if indexed == 1:
        await caught_up(indexer)
    sent.reverse()
    assert await ids(flow) == [one[0] for one in sent]
    assert await ids(flow, "alice") == [one[0] for one in sent if "alice" in one[1:3]]
    pair = [one[0] for one in sent if set(one[1:3]) == {"alice", "bob"}]
    assert await ids(flow, "alice", "bob") == pair
    assert await ids(flow, "bob", "alice") == pair
    assert await ids(flow, q="odd") == [one[0] for one in sent if "odd" in one[3]]
    both = [one[0] for one in sent if "odd" in one[3] and "carol" in one[1:3]]
    assert await ids(flow, "carol", q="odd") == both
    assert await ids(flow, "nobody") == []
    assert await ids(flow, q="!") == []


async def test_each_message_tells_what_has_become_of_it(
    broker: Broker, indexer: Indexer, flow: Flow, clock: FakeClock
) -> None:
    read = await broker.send("alice", "bob", "read")
    [taken] = await broker.recv("bob")
    await clock.advance(2)
    await broker.ack_turn("bob", [taken.id], turn=12)
    dead = await broker.send("alice", "bob", "dead")
    await broker.recv("bob")
    await broker.dead_letter("bob", [dead.id], "cancelled")
    flying = await broker.send("alice", "bob", "flying")
    await broker.recv("bob")
    waits = await broker.send("operator", "bob", "waits " * 1000)
    rows = {row.id: row for row in (await flow.page(r.Flow())).rows}
    assert (rows[read.id].state, rows[read.id].turn) == ("acked", 12)
    delivered, acked = rows[read.id].delivered_at, rows[read.id].acked_at
    assert acked == 1_800_000_002
    assert delivered is not None  # at the latest when it was acked
    assert delivered <= acked
    assert (rows[dead.id].state, rows[dead.id].note) == ("dead", "cancelled")
    assert rows[flying.id].state == "in_flight"
    assert (rows[waits.id].state, rows[waits.id].cut, len(rows[waits.id].body)) == ("pending", True, 4096)
    of_state: dict[MessageStateName, Receipt] = {
        "acked": read,
        "dead": dead,
        "in_flight": flying,
        "pending": waits,
    }
    for state, one in of_state.items():
        found = (await flow.page(r.Flow(state=state, agent="bob"))).rows
        assert one.id in [row.id for row in found]
        assert {row.state for row in found} == {state}
    await caught_up(indexer)
    assert await ids(flow, "alice", "bob", "acked") == [read.id]
    assert await ids(flow, state="pending", q="waits") == [waits.id]
    assert len((await flow.message(waits.id)).message.body) == 6000
    with pytest.raises(NotFound, match="30 days"):
        await flow.message(999)


PLANS = {
    "all": (flow_module.ALL, "SEARCH messages USING INTEGER PRIMARY KEY"),
    "not done": (flow_module.NOT_DONE, "messages USING INDEX unacked"),
    "parked": (flow_module.PARKED, "SEARCH messages USING INDEX parked"),
}


@pytest.mark.parametrize("name", PLANS)
async def test_a_page_of_the_table_reads_an_index(broker: Broker, name: str) -> None:
    statement, expected = PLANS[name]
    values = {"agent": None, "other": None, "before": 9, "after": 0, "limit": 9, "waits": 1, "parked": "dead"}

    def plan(conn: sqlite3.Connection) -> list[str]:
        return [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

    steps = await broker.read(plan)
    assert any(expected in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps)


async def test_an_agents_messages_come_from_two_indexes_without_sorting(indexer: Indexer) -> None:
    def plan(conn: sqlite3.Connection) -> list[str]:
        mine = conn.execute(f"EXPLAIN QUERY PLAN {index.MAIL_OF}", ("alice", 9, None, 9)).fetchall()
        words = (parse("word").match, 9, "alice", None, 9)
        return [row[3] for row in [*mine, *conn.execute(f"EXPLAIN QUERY PLAN {index.FIND_MAIL}", words)]]

    steps = await anyio.to_thread.run_sync(indexer.look, plan, list[str]())
    assert any("INDEX mail_from (sender=? AND ref<?)" in step for step in steps), steps
    assert any("INDEX mail_to (recipient=? AND ref<?)" in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
