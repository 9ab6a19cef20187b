"""Searching what a hive has said: the index keeps up by itself, off the senders' way, and may be thrown away."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from hyperhive.broker import Broker
from hyperhive.eventlog import EventLogs
from hyperhive.protocol.events import Note, Stream
from hyperhive.protocol.live import encode_live
from hyperhive.screens import index
from hyperhive.screens.events import AgentEvents
from hyperhive.screens.indexer import Indexer
from hyperhive.screens.search import Search
from hyperhive.screens.words import parse
from hyperhive.testing import FakeClock

T = TypeVar("T")


@pytest.fixture
def search(broker: Broker, indexer: Indexer, clock: FakeClock) -> Search:
    return Search(broker, indexer, clock)


async def caught_up(indexer: Indexer) -> None:
    while await indexer.step():
        pass


async def peek(indexer: Indexer, look: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
    return await anyio.to_thread.run_sync(indexer.look, look, otherwise)


def run(path: Path, statement: str) -> list[object]:
    with closing(sqlite3.connect(path)) as conn, conn:
        return conn.execute(statement).fetchall()


async def ids(search: Search, query: str, limit: int = 50) -> list[int]:
    return [hit.id for hit in (await search.find(query, limit=limit)).hits]


async def test_a_message_is_found_before_and_after_the_index_has_it(
    broker: Broker, indexer: Indexer, search: Search, clock: FakeClock
) -> None:
    first = await broker.send("alice", "bob", "the parser fails on empty input")
    await clock.advance(5)
    second = await broker.send("bob", "alice", "which parser?")
    assert await ids(search, "parser") == [second.id, first.id]
    await caught_up(indexer)
    assert indexer.through == second.id
    assert await ids(search, "parser") == [second.id, first.id]
    third = await broker.send("alice", "bob", "the parser of dates")
    found = (await search.find("parser")).hits
    assert [hit.id for hit in found] == [third.id, second.id, first.id]
    assert (found[-1].kind, found[-1].sender, found[-1].recipient) == ("message", "alice", "bob")
    assert [(piece.text, piece.hit) for piece in found[-1].snippet] == [
        ("the ", False),
        ("parser", True),
        (" fails on empty input", False),
    ]


async def test_pages_go_on_where_the_last_one_ended(
    broker: Broker, indexer: Indexer, search: Search, clock: FakeClock
) -> None:
    sent = []
    for number in range(25):
        sent.append((await broker.send("alice", "bob", f"word {number}")).id)
        await clock.advance(number % 3)  # several in one second
    await caught_up(indexer)
    got: list[int] = []
    before = None
    while hits := (await search.find("word", limit=7, before=before)).hits:
        got += [hit.id for hit in hits]
        before = hits[-1].cursor
    assert got == sent[::-1]


async def test_what_the_index_is_just_taking_in_is_found_once(
    broker: Broker, indexer: Indexer, search: Search
) -> None:
    """It is written first, and noted as known a moment later."""
    await broker.send("alice", "bob", "first word")
    await caught_up(indexer)
    known = dict(indexer._marks)
    await broker.send("alice", "bob", "second word")
    await caught_up(indexer)
    indexer._marks = known
    assert len(await ids(search, "word")) == 2


async def test_questions_and_what_is_gone(broker: Broker, indexer: Indexer, search: Search) -> None:
    asked = await broker.questions.ask("alice", "May I delete the elephant table?")
    await broker.send("alice", "bob", "elephant")
    await caught_up(indexer)
    hits = (await search.find("elephant")).hits
    assert {(hit.kind, hit.sender) for hit in hits} == {("question", "alice"), ("message", "alice")}
    assert asked in {hit.id for hit in hits}
    assert {hit.kind for hit in (await search.find("elephant", scope="events")).hits} == set()


async def test_the_index_may_be_lost_damaged_or_of_another_database(
    broker: Broker, clock: FakeClock, tmp_path: Path
) -> None:
    sent = [(await broker.send("alice", "bob", f"word {number}")).id for number in range(5)]
    path = tmp_path / "index" / "words.sqlite"

    async def find() -> list[int]:
        indexer = Indexer(database=broker, path=path, bus=broker.bus, clock=clock)
        async with anyio.create_task_group() as group:
            group.start_soon(indexer.run)
            with anyio.fail_after(20):
                while indexer.behind:
                    await anyio.sleep(0.01)
                    await clock.advance(10)
            found = await ids(Search(broker, indexer, clock), "word")
            group.cancel_scope.cancel()
        return found

    assert await find() == sent[::-1]
    await anyio.to_thread.run_sync(index.throw_away, path)
    assert await find() == sent[::-1]
    await anyio.Path(path).write_bytes(b"no database at all" * 1000)
    assert await find() == sent[::-1]
    await anyio.to_thread.run_sync(
        run, path, "UPDATE docs SET sender = 'mallory'"
    )  # an older backup, put back
    assert await find() == sent[::-1]
    assert await anyio.to_thread.run_sync(run, path, "SELECT DISTINCT sender FROM docs") == [("alice",)]


async def test_what_was_killed_in_the_middle_goes_on_where_it_was(
    broker: Broker, indexer: Indexer, search: Search
) -> None:
    """A batch and the note of how far it goes are one transaction: nothing is in it twice."""
    sent = [(await broker.send("alice", "bob", f"word {number}")).id for number in range(450)]
    assert await indexer.step()
    await indexer.aclose()
    await indexer.open()
    assert 0 < indexer.through < sent[-1]
    await caught_up(indexer)
    assert await ids(search, "word", limit=200) == sent[::-1][:200]
    with_all = await peek(indexer, lambda conn: conn.execute("SELECT count(*) FROM docs").fetchone()[0], 0)
    assert with_all == len(sent)


async def test_what_the_hive_forgets_is_found_no_more(
    broker: Broker, indexer: Indexer, search: Search, clock: FakeClock
) -> None:
    old = await broker.send("alice", "bob", "old word")
    await broker.recv("bob")
    await broker.ack_turn("bob")
    await broker.send("alice", "bob", "new word")
    await caught_up(indexer)
    await clock.advance(40 * 86_400)
    assert await broker.vacuum() == 1
    assert old.id not in await ids(search, "word")
    assert len(await ids(search, "word")) == 1
    await indexer.sweep()
    assert await peek(indexer, index.gone, (0, 0)) == (1, 2)


async def test_what_the_hive_removes_leaves_the_index_in_the_same_pass_with_its_words(
    broker: Broker, indexer: Indexer, clock: FakeClock
) -> None:
    for number in range(3):
        await broker.send("alice", "bob", f"old Ocelot {number}, ça va?")
        await broker.recv("bob")
        await broker.ack_turn("bob")
    waiting = await broker.send("alice", "bob", "an ocelot that nobody has read")
    await clock.advance(40 * 86_400)
    new = await broker.send("alice", "bob", "a new ocelot")
    await caught_up(indexer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperhive.broker.listings.OLD_ROWS", 2)
        await indexer.forget(broker.old_mail)
    assert await hits(indexer, "ocelot") == [waiting.id, new.id]
    assert await broker.vacuum() == 3
    await indexer.sweep()
    assert await peek(indexer, index.gone, (0, 0)) == (0, 2), "no word is left that leads nowhere"
    assert await broker.read(broker.old_mail) == []


async def hits(indexer: Indexer, word: str) -> list[int]:
    """The messages that the words themselves lead to, whatever else is known of them."""

    def look(conn: sqlite3.Connection) -> list[int]:
        found = conn.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid", (word,)).fetchall()
        return [conn.execute("SELECT ref FROM docs WHERE doc = ?", row).fetchone()[0] for row in found]

    return await peek(indexer, look, list[int]())


async def test_what_is_being_taken_in_is_not_left_behind_when_it_is_taken_out(
    broker: Broker, indexer: Indexer, clock: FakeClock
) -> None:
    await broker.send("alice", "bob", "old ocelot")
    await broker.recv("bob")
    await broker.ack_turn("bob")
    await clock.advance(40 * 86_400)
    await broker.send("alice", "bob", "another")
    async with anyio.create_task_group() as group:
        group.start_soon(indexer.step)
        await anyio.lowlevel.checkpoint()
        await indexer.forget(broker.old_mail)
    await broker.vacuum()
    assert await hits(indexer, "ocelot") == []


async def test_an_index_that_cannot_be_swept_is_told_of_and_keeps_nobody(
    broker: Broker, indexer: Indexer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.send("alice", "bob", "old ocelot")
    await broker.recv("bob")
    await broker.ack_turn("bob")
    await broker.send("alice", "bob", "another")
    await caught_up(indexer)
    await clock.advance(40 * 86_400)
    assert indexer._conn is not None
    await anyio.to_thread.run_sync(indexer._conn.execute, "DROP TABLE words")
    await indexer.forget(broker.old_mail)
    assert "index_not_swept" in caplog.text
    assert await broker.vacuum() == 1


@pytest.mark.parametrize("what", ["link", "pipe"])
async def test_a_log_that_is_no_plain_file_is_not_opened(what: str, tmp_path: Path) -> None:
    """A harness in a container has its directory to itself: a link would lead to anything of the machine's."""
    logs = EventLogs()
    real, path = tmp_path / "real.sqlite", tmp_path / "events.sqlite"
    log = await logs.open(real)
    eid = log.append(1000, "note", encode_live(Note(text="giraffe")))
    assert eid is not None
    await log.flush()
    await logs.aclose()
    path.symlink_to(real) if what == "link" else os.mkfifo(path)
    events = AgentEvents(lambda: ["alice"], lambda _: path)
    with anyio.fail_after(20):
        assert await anyio.to_thread.run_sync(events, {}, 100) == ([], {})
        assert await anyio.to_thread.run_sync(events.text, "alice", eid) is None


async def test_an_agents_words_and_tool_calls_are_found_with_the_way_to_them(
    broker: Broker, clock: FakeClock, tmp_path: Path
) -> None:
    logs = EventLogs()
    path = tmp_path / "events.sqlite"
    log = await logs.open(path)
    call = b'{"type":"tool_use","name":"Bash","input":{"command":"make giraffe"}}'
    line = b'{"type":"assistant","message":{"content":[%s]}}' % call
    eid = log.append(1000, "stream", encode_live(Stream(line=line), turn=7))
    log.append(1001, "note", encode_live(Note(text="giraffe: not found"), turn=7))
    log.append(1002, "stream", b"null")
    await log.flush()
    events = AgentEvents(
        lambda: ["alice", "bob"], lambda name: path if name == "alice" else tmp_path / "none"
    )
    indexer = Indexer(
        database=broker, path=tmp_path / "s" / "words.sqlite", bus=broker.bus, clock=clock, events=events
    )
    await indexer.open()
    await caught_up(indexer)
    search = Search(broker, indexer, clock, events)
    note, used = (await search.find("giraffe")).hits
    assert (used.kind, used.agent, used.turn, used.eid) == ("event", "alice", 7, eid)
    assert [piece.text for piece in used.snippet if piece.hit] == ["giraffe"]
    assert note.at == 1001
    assert (await search.find("giraffe", scope="messages")).hits == []
    log.append(1003, "note", encode_live(Note(text="giraffe again")))
    await log.flush()
    await caught_up(indexer)
    assert len((await search.find("giraffe", scope="events")).hits) == 3
    await indexer.aclose()
    await logs.aclose()


async def test_events_leave_the_index_as_they_leave_the_log(
    broker: Broker, clock: FakeClock, tmp_path: Path
) -> None:
    logs = EventLogs()
    path = tmp_path / "events.sqlite"
    log = await logs.open(path)
    start = int(clock.time())
    log.append(start, "note", encode_live(Note(text="an old giraffe"), turn=1))
    log.append(start + 8 * 86_400, "note", encode_live(Note(text="a new giraffe"), turn=2))
    await log.flush()
    await broker.send("alice", "bob", "a giraffe in the mail")
    events = AgentEvents(lambda: ["alice"], lambda _: path)
    indexer = Indexer(
        database=broker, path=tmp_path / "s" / "words.sqlite", bus=broker.bus, clock=clock, events=events
    )
    await indexer.open()
    await caught_up(indexer)
    await clock.advance(8 * 86_400)
    await log.sweep(int(clock.time()))
    await indexer.sweep()
    assert await peek(indexer, index.gone, (0, 0)) == (1, 3)
    found = (await Search(broker, indexer, clock, events).find("giraffe")).hits
    assert [(hit.kind, hit.turn) for hit in found] == [("event", 2), ("message", None)]
    await clock.advance(8 * 86_400)
    await log.sweep(int(clock.time()))
    await caught_up(indexer)
    lost = await anyio.to_thread.run_sync(events.lost, dict(indexer._marks))
    assert not lost, "an agent that said nothing for a week was not purged"
    await indexer.aclose()
    await logs.aclose()


@pytest.mark.parametrize("then", ["nothing", "another log"])
async def test_of_an_agent_that_was_purged_no_word_stays_in_the_index(
    broker: Broker, clock: FakeClock, tmp_path: Path, then: str
) -> None:
    """Words that lead nowhere could still be read from the index's file."""
    logs = EventLogs()
    path = tmp_path / "alice" / "events.sqlite"
    path.parent.mkdir()
    log = await logs.open(path)
    for _ in range(3):
        log.append(1000, "note", encode_live(Note(text="xylophone")))
    await log.flush()
    mail = await broker.send("alice", "bob", "hello")
    events = AgentEvents(lambda: ["alice"], lambda _: path)
    indexer = Indexer(
        database=broker, path=tmp_path / "s" / "words.sqlite", bus=broker.bus, clock=clock, events=events
    )
    search = Search(broker, indexer, clock, events)

    async def knows(word: str) -> bool:
        async for one in anyio.Path(tmp_path / "s").iterdir():
            with contextlib.suppress(FileNotFoundError):  # thrown away just now
                if word.encode() in await one.read_bytes():
                    return True
        return False

    async with anyio.create_task_group() as group:
        group.start_soon(indexer.run)
        with anyio.fail_after(50):
            while not (await search.find("xylophone")).hits:
                await clock.advance(10)
            assert await knows("xylophone")
            await logs.aclose()
            path.unlink()
            if then == "another log":
                logs = EventLogs()
                log = await logs.open(path)
                log.append(1000, "note", encode_live(Note(text="zither")))
                await log.flush()
            while await knows("xylophone"):
                await clock.advance(10)
            while indexer.behind or (then == "another log" and not (await search.find("zither")).hits):
                await clock.advance(10)
        assert await ids(search, "hello") == [mail.id]
        group.cancel_scope.cancel()
    await logs.aclose()


async def test_the_newest_come_by_number_alone(indexer: Indexer) -> None:
    """A join that is sorted would read every text that has a common word."""

    def plan(conn: sqlite3.Connection) -> list[str]:
        statement = index.FIND.format(kinds="0, 2, 3")
        values = (parse("word").match, index.TOP, 50)
        return [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

    steps = await peek(indexer, plan, list[str]())
    assert any("VIRTUAL TABLE" in step for step in steps)
    assert any("docs USING INTEGER PRIMARY KEY" in step for step in steps)
    assert not [
        step for step in steps if "TEMP B-TREE" in step or "MATERIALIZE" in step or "CO-ROUTINE" in step
    ]
