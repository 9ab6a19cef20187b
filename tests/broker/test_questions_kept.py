"""The hive's own questions, the end of an agent, old rows and damaged ones."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from hyperhive.broker import Broker, QuestionRow, raise_in
from hyperhive.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotAvailable,
    NotFound,
)
from hyperhive.protocol.types import QuestionEnd
from hyperhive.store import Operation
from hyperhive.testing import FakeClock
from questions import told


class Counter:
    """An errand that keeps what it did in a table of its own."""

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses = refuses
        self.heard: list[object] = []

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> object:
        conn.execute("CREATE TABLE IF NOT EXISTS done (about TEXT, answer TEXT, at INTEGER)")
        conn.execute("INSERT INTO done VALUES (?, ?, ?)", (question.about, answer, at))
        if answer == self.refuses:
            raise Conflict("not now")
        return f"did {answer}"

    def carried_out(self, question: QuestionRow, result: object) -> None:
        self.heard.append((question.about, result))


async def raised(broker: Broker, about: str) -> tuple[QuestionRow, bool]:
    """A question of the hive's own, as another part raises it in its own transaction."""

    def run(conn: sqlite3.Connection, batch: Sequence[str]) -> list[tuple[QuestionRow, bool]]:
        options = ("release", "drop")
        return [
            raise_in(conn, question="A flood.", options=options, kind="flood", about=one, at=1_800_000_000)
            for one in batch
        ]

    row, new = await broker.store.submit(Operation("raise", run), about)
    broker.questions.announce([row])
    return row, new


async def done(broker: Broker) -> list[tuple[str, str]]:
    def read(conn: sqlite3.Connection) -> list[tuple[str, str]]:
        if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'done'").fetchall():
            return []
        return conn.execute("SELECT about, answer FROM done").fetchall()

    return await broker.store.read(read)


async def test_the_hives_own_question_takes_its_options_and_does_what_they_say_at_once(
    broker: Broker,
) -> None:
    errand = Counter()
    broker.questions.on_answer("flood", errand)
    row, new = await raised(broker, "chain 5")
    again, fresh = await raised(broker, "chain 5")
    assert (new, again.id, fresh) == (True, row.id, False)
    assert (await raised(broker, "chain 6"))[0].id != row.id
    for by, words in (("operator", "maybe"), ("operator", "Release"), ("manager", "release")):
        with pytest.raises((BadRequest, Forbidden)):
            await broker.questions.answer(row.id, words, by=by)
    with pytest.raises(Conflict, match="the hive's own"):
        await broker.questions.cancel(row.id, by="operator", any=True)
    assert (await done(broker), errand.heard) == ([], [])
    await broker.questions.answer(row.id, "release", by="operator")
    assert await done(broker) == [("chain 5", "release")]
    assert errand.heard == [("chain 5", "did release")]
    with pytest.raises(Conflict):
        await broker.questions.answer(row.id, "drop", by="operator")
    assert len(await done(broker)) == 1


async def test_an_errand_that_refuses_leaves_nothing_and_no_neighbour_pays(broker: Broker) -> None:
    broker.questions.on_answer("flood", Counter(refuses="drop"))
    row, _ = await raised(broker, "chain 5")
    other, _ = await raised(broker, "chain 6")
    mine = await broker.questions.ask("alice", "May I?")
    outcomes = await asyncio.gather(
        broker.questions.answer(mine, "yes", by="operator"),
        broker.questions.answer(row.id, "drop", by="operator"),
        broker.questions.answer(other.id, "release", by="operator"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Conflict)
    assert await done(broker) == [("chain 6", "release")]
    assert [known.id for known in broker.questions.open_now()] == [row.id]
    assert len(await told(broker, "alice")) == 1


async def test_without_an_errand_the_hives_own_question_cannot_be_answered(broker: Broker) -> None:
    row, _ = await raised(broker, "chain 5")
    with pytest.raises(NotAvailable):
        await broker.questions.answer(row.id, "release", by="operator")
    assert await broker.questions.withdraw([row.id, 99], "the flood ended") == 1
    assert (await broker.questions.find(row.id)).answer == "[withdrawn: the flood ended]"


# --- the end of an agent, retention, damage -------------------------------------------------------------------------


async def test_what_an_agent_asked_or_was_asked_ends_with_it_and_the_askers_are_told(broker: Broker) -> None:
    await broker.questions.ask("alice", "Mine?")
    await broker.questions.ask("bob", "Yours?", target="alice")
    other = await broker.questions.ask("bob", "Ours?")
    assert await broker.questions.close_of("alice", "alice was destroyed") == 2
    assert [known.id for known in broker.questions.open_now()] == [other]
    for name in ("alice", "bob"):
        events = [event for event in await told(broker, name) if event["event"] == "question_answered"]
        assert [(one["answer"], one["answerer"]) for one in events] == [
            ("[withdrawn: alice was destroyed]", "system")
        ]


async def test_resolved_questions_go_after_ninety_days_and_open_ones_never(
    broker: Broker, clock: FakeClock
) -> None:
    old = await broker.questions.ask("alice", "Old?")
    await broker.questions.answer(old, "so", by="operator")
    waiting = await broker.questions.ask("alice", "Still?")
    await clock.advance(89 * 86_400)
    young = await broker.questions.ask("alice", "Young?")
    await broker.questions.answer(young, "so", by="operator")
    await clock.advance(2 * 86_400)
    await broker.vacuum()
    with pytest.raises(NotFound):
        await broker.questions.find(old)
    assert (await broker.questions.find(young)).answer == "so"
    assert [row.id for row in await broker.questions.open()] == [waiting]
    assert await broker.questions.ask("alice", "New?") == young + 1


DAMAGE = [
    "options = 'no json'", "options = '[1, 2]'", "options = x'ff'", "options = 7", "multi = 'many'",
    "question = x'fffe'", "question = CAST(x'fffe' AS TEXT)", "asked_at = 'then'", "tool = '{'",
    "asker = CAST(x'fffe' AS TEXT)", "expires_at = 'soon'", "target = 'No Name'", "answered_at = 'never'",
    "options = '" + "[" * 5000 + "'", "hops = 'x'",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_row_that_cannot_be_read_is_shown_as_such_and_hides_no_other(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator sees which row it is and why, it is logged once, and cancelling it tells its asker."""
    async with Broker.open(path) as broker:
        before = await broker.questions.ask("alice", "Before?")
        bad = await broker.questions.ask("bob", "Bad?", target="alice", options=["a"])
        after = await broker.questions.ask("alice", "After?")
        await told(broker, "alice")
    with sqlite3.connect(path) as conn:
        conn.execute(f"UPDATE questions SET {damage} WHERE id = ?", (bad,))
    conn.close()
    async with Broker.open(path) as broker:
        rows = await broker.questions.open("operator")
        await broker.questions.open("operator")
        if damage == "target = 'No Name'":  # a name that nobody has is no damage of the row
            assert [row.id for row in await broker.questions.open()] == [before, bad, after]
            return
        assert [row.id for row in rows] == [before, bad, after]
        assert f"row {bad} of the questions cannot be read" in rows[1].question
        assert any(
            str(bad) in end.question for end in await broker.loose_ends.open() if isinstance(end, QuestionEnd)
        )
        assert [line.message for line in caplog.records].count(
            f"question_unreadable question={bad} fault={rows[1].fault}"
        ) == 1
        with pytest.raises(Conflict, match="cannot be read"):
            await broker.questions.answer(bad, "a", by="operator", override=True)
        await broker.questions.cancel(bad, by="operator", any=True)
        assert [row.id for row in await broker.questions.open("operator")] == [before, after]
        if "asker" not in damage:
            assert [event["answer"] for event in await told(broker, "bob")] == ["[cancelled by operator]"]


async def test_the_hives_own_question_that_cannot_be_read_can_be_put_away_and_is_asked_anew(
    path: Path,
) -> None:
    """Else nobody could ever say what is to become of what it is about."""

    async with Broker.open(path) as broker:
        first, _ = await raised(broker, "1")
    with sqlite3.connect(path) as conn:
        conn.execute("UPDATE questions SET options = '[' WHERE id = ?", (first.id,))
    conn.close()
    async with Broker.open(path) as broker:
        again, new = await raised(broker, "1")
        assert (again.id > first.id, new) == (True, True)
        assert await raised(broker, "1") == (again, False)
        await broker.questions.cancel(first.id, by="operator", any=True)
        assert [row.id for row in await broker.questions.open("operator")] == [again.id]


async def test_the_originals_questions_are_taken_over(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute(
            "CREATE TABLE operator_questions (id INTEGER PRIMARY KEY AUTOINCREMENT, asker TEXT NOT NULL,"
            " question TEXT NOT NULL, options_json TEXT NOT NULL DEFAULT '[]', multi INTEGER NOT NULL DEFAULT 0,"
            " asked_at INTEGER NOT NULL, answered_at INTEGER, answer TEXT)"
        )
        conn.execute(
            "INSERT INTO operator_questions VALUES (4, 'alice', 'May I?', '[\"yes\"]', 0, 1700000000, NULL, NULL)"
        )
        conn.execute(
            "INSERT INTO operator_questions VALUES (7, 'bob', 'Lost?', 'null!', 0, 1700000000, NULL, NULL)"
        )
    conn.close()
    for _ in range(2):
        async with Broker.open(path) as broker:
            first, lost = await broker.questions.open("operator")
            assert (first.id, first.asker, first.options) == (4, "alice", ("yes",))
            assert (lost.id, lost.fault is not None) == (7, True)
    async with Broker.open(path) as broker:
        assert await broker.questions.ask("alice", "Next?") == 8
