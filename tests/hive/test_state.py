"""`state`: all that the operator's screens begin with, by the contract of `seq`."""

import sqlite3
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from hyperhive.client import RemoteHive
from hyperhive.host import Hive
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import QuestionAdded, TombstonesChanged
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES

T = TypeVar("T", bound=p.Reply)


async def asked(hive: Hive, request: r.Request, kind: type[T]) -> T:
    reply = (await hive.dispatcher.dispatch(Actor.operator(), request)).reply
    assert isinstance(reply, kind), reply
    return reply


async def state(hive: Hive) -> p.HiveSnapshot:
    return await asked(hive, r.State(), p.HiveSnapshot)


async def test_the_snapshot_has_the_whole_hive(hive: Hive, operator: RemoteHive) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.broker.send("alice", "operator", "done " * 2000)
    number = await hive.broker.questions.ask("alice", "May I?", options=["yes", "no"])
    reminder = await hive.broker.reminders.set("alice", "look " * 100, delay_seconds=3600)
    wanted = await operator.approvals.submit("bob", kind="spawn")
    found = await state(hive)
    assert {view.name for view in found.containers} == {"manager", "alice"}
    [mail] = found.inbox
    assert (mail.sender, len(mail.body), mail.cut) == ("alice", 4096, True)
    assert [(one.id, one.options, one.cut) for one in found.questions] == [(number, ("yes", "no"), False)]
    assert [(one.id, one.owner, len(one.message)) for one in found.reminders] == [(reminder, "alice", 200)]
    assert [one.id for one in found.approvals] == [wanted.id]
    assert (found.transients, found.tombstones) == ({}, [])
    assert found.meta_inputs[0].name == "hyperhive"
    hive_itself = found.hive
    assert (hive_itself.operator_unread, hive_itself.questions, hive_itself.dead) == (1, 1, 0)
    assert (hive_itself.runtime, hive_itself.started_at) == ("process", hive.started_at)


async def test_its_seq_was_read_before_the_rest(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while it is gathered has a later number: a client applies it again, and misses nothing."""
    await hive.broker.questions.ask("manager", "First?")
    before = hive.bus.current_seq
    look = hive.broker.reminders.beginnings

    async def slow(chars: int, owner: str | None = None, *, limit: int = -1) -> object:
        await hive.broker.questions.ask("manager", "Second?")
        return await look(chars, owner, limit=limit)

    monkeypatch.setattr(hive.broker.reminders, "beginnings", slow)
    found = await state(hive)
    assert found.seq == before
    later = [frame.event for frame in hive.bus.history() if frame.seq > found.seq]
    assert [event.question for event in later if isinstance(event, QuestionAdded)] == ["Second?"]


async def test_neither_long_texts_nor_unreadable_rows_break_it(hive: Hive) -> None:
    """Escaped, a byte of text may become six of JSON; and one bad row hides no other."""
    for number in range(20):
        for _ in range(2):
            await hive.broker.questions.ask(f"a{number}", "\x01" * 7000, options=["a", "b"])
        await hive.broker.send(f"a{number}", "operator", "\x01" * 200_000)
    good = await hive.broker.questions.ask("a0", "Good?")
    bad = await hive.broker.questions.ask("a0", "Bad?")
    with sqlite3.connect(hive.paths.database) as conn:
        conn.execute("UPDATE questions SET options = '[' WHERE id = ?", (bad,))
    conn.close()
    found = await state(hive)
    assert len(encode(found)) < REPLY_LINE_MAX_BYTES
    assert found.hive.questions > len(found.questions) > 0 or {good, bad} <= {
        one.id for one in found.questions
    }
    whole = await asked(hive, r.Questions(id=bad), p.QuestionRows)
    assert "cannot be read" in whole.questions[0].question
    for number in range(20):
        for one in hive.broker.questions.open_now(asker=f"a{number}")[:2]:
            await hive.broker.questions.cancel(one.id, by="operator", any=True)
    shown = {one.id: one.question for one in (await state(hive)).questions}
    assert shown[good] == "Good?"
    assert "cannot be read" in shown[bad]


async def test_a_tombstone_tells_since_when_and_how_much_it_keeps(hive: Hive, home: Path) -> None:
    await hive.lifecycle.spawn("alice")
    place = anyio.Path(home / "state" / "agents" / "alice" / "state" / "work.bin")
    await place.write_bytes(b"x" * 300_000)
    async with hive.bus.subscribe() as events:
        await hive.lifecycle.destroy("alice")
        with anyio.fail_after(30):
            async for frame in events:
                if not isinstance(getattr(frame, "event", None), TombstonesChanged):
                    continue
                [tomb] = (await state(hive)).tombstones
                assert tomb.name == "alice"
                assert (tomb.destroyed_at or 0) >= hive.started_at
                if tomb.size_bytes is not None:
                    assert tomb.size_bytes >= 300_000
                    return


async def test_reminders_lists_everybodys(hive: Hive) -> None:
    later = await hive.broker.reminders.set("operator", "later", delay_seconds=7200, to="manager")
    sooner = await hive.broker.reminders.set("manager", "sooner", delay_seconds=3600)
    found = (await asked(hive, r.Reminders(), p.ReminderRows)).reminders
    assert [(one.id, one.owner, one.set_by) for one in found] == [
        (sooner, "manager", "manager"),
        (later, "manager", "operator"),
    ]
