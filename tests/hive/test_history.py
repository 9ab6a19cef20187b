"""The hive's past: what its stream told, for those who were not there; sends pay nothing for it."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from hyperhive.broker import MIGRATIONS as MAIL_TABLES
from hyperhive.broker import Broker
from hyperhive.broker.past import NEWEST
from hyperhive.clock import SYSTEM_CLOCK, unix_seconds
from hyperhive.errors import BadRequest
from hyperhive.hive_history import KEPT_DAYS, MIGRATIONS, HiveHistory
from hyperhive.host import Hive
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    ContainerStateChanged,
    QuestionAdded,
    RemindersChanged,
    TransientCleared,
    TransientSet,
)
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.types import ContainerView
from hyperhive.store import Database, Store
from hyperhive.testing import FakeClock

NAMED = ("kind", "id", "state", "agent", "body")


class World:
    """A broker, a store and the history of both."""

    def __init__(self, store: Store, broker: Broker, clock: FakeClock) -> None:
        self.store, self.broker, self.clock = store, broker, clock
        self.history = HiveHistory(store, broker, clock, lambda: broker.bus.current_seq)
        broker.bus.tap(self.history.note)

    def tell(self, *events: AnyDashboardEvent) -> None:
        for event in events:
            self.broker.bus.publish(event)

    async def whole(self, limit: int) -> list[dict[str, Any]]:
        """All of it, page by page."""
        events: list[dict[str, Any]] = []
        page = await self.history.page(limit=limit)
        while True:
            events = page.events + events
            if page.older is None:
                return events
            page = await self.history.page(page.older, limit)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = await Store.open(tmp_path / "hive.sqlite", migrations=[MAIL_TABLES, MIGRATIONS], clock=clock)
    broker = await Broker(store=store, clock=clock).start()
    yield World(store, broker, clock)
    await broker.aclose()
    await store.aclose()


def brief(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(event[key] for key in NAMED if key in event) for event in events]


async def test_a_message_is_told_of_as_on_the_stream_by_its_row_alone(world: World) -> None:
    seen: list[AnyDashboardEvent] = []
    world.broker.bus.tap(seen.append)
    sent = (await world.broker.send("operator", "alice", "hello")).id
    await world.broker.recv("alice", wait_seconds=0)
    await world.broker.ack_turn("alice")
    page = await world.history.page()
    assert page.seq == world.broker.bus.current_seq
    assert brief(page.events) == [
        ("sent", sent, "hello"),
        ("delivered", sent, "hello"),
        ("message_state", sent, "acked"),
    ]
    live = [msgspec.json.decode(msgspec.json.encode(event)) for event in seen]
    assert [{"ts": event["at"], **event} for event in live if event["kind"] in {"sent", "delivered"}] == [
        event for event in page.events if event["kind"] in {"sent", "delivered"}
    ]
    with closing(sqlite3.connect(world.store.path)) as db:
        assert db.execute("SELECT count(*) FROM hive_events").fetchone() == (0,)


async def test_a_new_messages_state_is_told(world: World) -> None:
    seen: list[AnyDashboardEvent] = []
    world.broker.bus.tap(seen.append)
    sent = (await world.broker.send("operator", "alice", "hello")).id
    told = [msgspec.to_builtins(event) for event in seen]
    assert [(event["kind"], event["id"]) for event in told] == [("sent", sent), ("message_state", sent)]
    assert told[1]["state"] == "pending"


async def test_what_no_row_tells_of_is_kept(world: World) -> None:
    world.tell(TransientSet(agent="alice", what="starting"), TransientCleared(agent="alice"))
    await world.broker.send("operator", "alice", "hello")  # the next commit takes them along
    assert ("transient_set", "alice") in brief((await world.history.page()).events)
    assert ("transient_cleared", "alice") in brief((await world.history.page()).events)


async def test_what_only_says_look_again_is_not_kept(world: World) -> None:
    world.tell(RemindersChanged(owner="alice"), TransientSet(agent="alice", what="starting"))
    await world.broker.send("operator", "alice", "hello")
    assert [event["kind"] for event in (await world.history.page()).events].count("reminders_changed") == 0


def view(state: str) -> ContainerStateChanged:
    fields = {
        "name": "alice", "role": "agent", "running": True, "state": state, "turn_state": "idle",
        "turn_state_since": 0, "unread": 0, "model": "haiku", "isolation": "none", "network": "none",
        "account": "default", "needs_login": False, "needs_update": False, "held_by_operator": False,
        "pending_reminders": 0,
    }  # fmt: skip
    return ContainerStateChanged(container=msgspec.convert(fields, ContainerView))


async def test_of_fleet_rows_only_what_a_person_would_look_up_is_kept(world: World) -> None:
    for state in ("idle", "working", "idle", "failed", "failed", "working", "stopped", "idle"):
        world.tell(view(state))
    await world.broker.send("operator", "alice", "hello")
    kept = [
        event["container"]["state"] for event in (await world.history.page()).events if "container" in event
    ]
    assert kept == ["failed", "working", "stopped", "idle"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_hold_every_event_once_in_order(world: World, limit: int) -> None:
    for number in range(12):
        await world.clock.advance(1)
        world.tell(TransientSet(agent=f"a{number}", what="starting"))
        await world.broker.send("operator", "alice", f"m{number}")
        if number % 3 == 0:
            world.tell(TransientCleared(agent=f"a{number}"))
    await world.broker.recv("alice", max=4, wait_seconds=0)
    await world.broker.ack_turn("alice")
    await world.broker.send("operator", "bob", "last")
    everything = await world.whole(limit)
    names = brief(everything)
    assert len(names) == len(set(names)) == 12 + 4 + 13 * 2 + 4
    stamps = [event["ts"] for event in everything if event["kind"] in {"sent", "transient_set"}]
    assert stamps == sorted(stamps)


async def test_a_page_knows_all_that_its_number_counts(world: World) -> None:
    """Also what is written with the next commit: a reader drops what comes with a number up to the page's."""
    sent = (await world.broker.send("operator", "alice", "hello")).id
    world.tell(TransientSet(agent="alice", what="starting"))
    await world.broker.recv("alice", wait_seconds=0)
    page = await world.history.page()
    assert page.seq == world.broker.bus.current_seq
    told = brief(page.events)
    assert ("transient_set", "alice") in told
    assert ("message_state", sent, "in_flight") in told


@pytest.mark.parametrize("quiet", ["mail", "rest"])
async def test_what_happens_while_somebody_pages_back_is_on_no_older_page(world: World, quiet: str) -> None:
    """It came to him as it happened."""

    async def happen(number: int, what: str) -> None:
        if what == "mail":
            await world.broker.send("operator", "alice", f"m{number}")
        else:
            world.tell(TransientSet(agent=f"a{number}", what="starting"))
            await world.broker.questions.ask("alice", f"q{number}")  # takes it along

    await happen(0, quiet)
    for number in range(1, 4):
        await world.clock.advance(1)
        await happen(number, "rest" if quiet == "mail" else "mail")
    page = await world.history.page(limit=2)
    await world.clock.advance(1)
    await happen(9, quiet)
    older = page.older
    seen: list[Any] = []
    while older is not None:
        page = await world.history.page(older, limit=2)
        seen += brief(page.events)
        older = page.older
    assert not any({"a9", "m9"} & set(one) for one in seen), seen
    assert any({"a0", "m0"} & set(one) for one in seen), seen


async def test_long_bodies_are_cut_as_on_the_wire(world: World) -> None:
    await world.broker.send("operator", "alice", "ä" * 5000)
    world.tell(QuestionAdded(id=1, asker="alice", target="operator", question="q" * 9000, asked_at=1))
    await world.broker.send("operator", "alice", "short")
    events = (await world.history.page()).events
    assert max(len(msgspec.json.encode(event)) for event in events) < 4400
    assert [event.get("cut", False) for event in events if event["kind"] == "sent"] == [True, False]


async def test_what_is_older_than_thirty_days_goes(world: World) -> None:
    world.tell(TransientSet(agent="old", what="starting"))
    await world.broker.send("operator", "alice", "one")
    await world.clock.advance(KEPT_DAYS * 86_400 + 1)
    world.tell(TransientSet(agent="new", what="starting"))
    await world.broker.send("operator", "alice", "two")
    await world.history.sweep()
    agents = [event["agent"] for event in (await world.history.page()).events if "agent" in event]
    assert agents == ["new"]


async def test_a_disk_that_refuses_costs_history_and_one_warning_never_the_stream(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(world.store.path)) as db:
        db.execute("DROP TABLE hive_events")
    heard: list[AnyDashboardEvent] = []
    world.broker.bus.tap(heard.append)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            world.tell(TransientSet(agent=f"a{number}", what="starting"))
            await world.broker.send("operator", "alice", "hello")
    assert len(heard) == 9
    assert [record.message.split()[0] for record in caplog.records] == ["hive_events_not_kept"]


async def test_after_the_store_was_closed_events_are_told_and_not_kept(world: World) -> None:
    await world.store.aclose()
    world.tell(TransientSet(agent="alice", what="stopping"))
    assert world.broker.bus.current_seq == 1


@pytest.mark.parametrize("before", ["x", "1", "-1.2", "1.2.3", "9" * 20 + ".1", ""])
async def test_a_place_that_no_page_said_is_one_clear_error(world: World, before: str) -> None:
    with pytest.raises(BadRequest, match="older"):
        await world.history.page(before)


async def test_the_past_outlives_the_hive(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.broker.send("operator", "alice", "reply with yes")
    with anyio.fail_after(30):
        while await hive.broker.pending("operator") == 0:
            await hive.bus.next_published()
        await hive.broker.mark_done([])  # a commit, which takes along what waits for one
        reply = (await hive.dispatcher.dispatch(Actor.operator(), r.History())).reply
    assert isinstance(reply, p.HivePast)
    names = brief(reply.events)
    assert ("transient_set", "alice") in names
    assert any("reply with yes" in name for name in names)
    assert all(event["ts"] <= unix_seconds(SYSTEM_CLOCK) for event in reply.events)


def test_a_page_of_mail_is_found_by_its_ids_whatever_lies_behind(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as db:
        MAIL_TABLES.apply(Database(db))
        plan = db.execute(f"EXPLAIN QUERY PLAN {NEWEST}", (4096, 5, 10)).fetchall()
    assert [row[3] for row in plan] == ["SEARCH messages USING INTEGER PRIMARY KEY (rowid<?)"]
