"""Questions against a model: any order of asking, answering, cancelling, expiry, crashes, restarts and clock jumps.

The model is the promise written down: a question is open or was resolved once, by the first who might; whoever was
asked and whoever asked has exactly one mail of each; what an answer carries out happens with it or not at all.
"""

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hyperhive.broker import Broker, QuestionRow, raise_in
from hyperhive.errors import BadRequest, Conflict, Forbidden, HiveError
from hyperhive.store import Operation
from hyperhive.testing import FakeClock
from questions import resolved

T = TypeVar("T")

AGENTS = ("alice", "bob", "manager")
OPTIONS = ("release", "drop")
DAY = 86_400

agents = st.sampled_from(AGENTS)
people = st.sampled_from([*AGENTS, "operator"])
pick = st.integers(0, 30)


@dataclass
class Question:
    """What the model knows of one question. `deadline`: on the monotonic clock."""

    id: int
    asker: str
    target: str
    asked_at: int
    expires_at: int | None = None
    deadline: float | None = None
    answer: str | None = None
    answerer: str | None = None


class Ledger:
    """An errand that writes down what was answered."""

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> object:
        del at
        conn.execute("CREATE TABLE IF NOT EXISTS ledger (question INTEGER, answer TEXT)")
        conn.execute("INSERT INTO ledger VALUES (?, ?)", (question.id, answer))
        return None

    def carried_out(self, question: QuestionRow, result: object) -> None:
        del question, result


def _raise_all(conn: sqlite3.Connection, batch: Sequence[tuple[str, int]]) -> list[tuple[QuestionRow, bool]]:
    return [
        raise_in(conn, question="A flood.", options=OPTIONS, kind="flood", about=about, at=at)
        for about, at in batch
    ]


RAISE = Operation("raise", _raise_all)


class QuestionsMachine(RuleBasedStateMachine):
    """Each rule does one thing to the questions and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hive-model-"))
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.questions: dict[int, Question] = {}
        self.mail: dict[str, list[tuple[str, int]]] = {name: [] for name in (*AGENTS, "operator")}
        self.calls: dict[tuple[str, str], int] = {}
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self) -> None:
        async def start() -> Broker:
            broker = await Broker.open(self.directory / "hive.sqlite", clock=self.clock)
            broker.questions.on_answer("flood", Ledger())
            return broker

        self.broker = self.run(start())

    def go_on(self) -> None:
        """What the new life takes from the rows: deadlines as they stand now, and what is overdue."""
        for one in self.waiting():
            if one.expires_at is not None:
                left = min(one.expires_at - self.clock.time(), one.expires_at - one.asked_at)
                one.deadline = self.clock.monotonic() + left
        self.settle()

    def teardown(self) -> None:
        self.run(self.broker.aclose())
        self.runner.close()
        shutil.rmtree(self.directory)

    # --- the model ---

    def waiting(self) -> list[Question]:
        return [one for one in self.questions.values() if one.answer is None]

    def chosen(self, number: int) -> Question | None:
        known = list(self.questions.values())
        return known[-1 - number % len(known)] if known else None

    def ended(self, one: Question, answer: str, answerer: str) -> None:
        assert one.answer is None
        one.answer, one.answerer = answer, answerer
        if one.asker != "system":
            self.mail[one.asker].append(("question_answered", one.id))

    def settle(self) -> None:
        """Waits for what the watchdog has to do by now."""
        due = [
            one
            for one in self.waiting()
            if one.deadline is not None and one.deadline <= self.clock.monotonic()
        ]
        self.run(resolved(self.broker, *(one.id for one in due)))
        for one in due:
            self.ended(one, "[expired]", "ttl-watchdog")

    def asked(self, number: int, asker: str, target: str, ttl: int | None) -> None:
        assert number > max(self.questions, default=0), "an id is never used again"
        now = int(self.clock.time())
        one = Question(number, asker, target, now)
        if ttl is not None:
            one.expires_at, one.deadline = now + ttl, self.clock.monotonic() + ttl
        self.questions[number] = one
        if target != "operator":
            self.mail[target].append(("question_asked", number))

    def refusal(self, one: Question, by: str, what: str) -> type[HiveError] | None:
        """What stands in the way of an answer or a cancellation."""
        if what == "answer" and by not in (one.target, "operator"):
            return Forbidden
        if what == "cancel" and by not in (one.asker, "manager", "operator"):
            return Forbidden
        if one.answer is not None:
            return Conflict
        if one.asker == "system":
            return Conflict if what == "cancel" else None
        return None

    async def end(self, one: Question, by: str, what: str, words: str) -> QuestionRow:
        if what == "answer":
            return await self.broker.questions.answer(one.id, words, by=by, override=by == "operator")
        return await self.broker.questions.cancel(one.id, by=by, any=by in ("manager", "operator"))

    # --- asking ---

    @rule(asker=people, to=people, ttl=st.sampled_from([None, None, 1, 60, DAY]))
    def ask(self, asker: str, to: str, ttl: int | None) -> None:
        asking = self.broker.questions.ask(asker, "Which?", target=to, ttl_seconds=ttl)
        if asker == to:
            with pytest.raises(BadRequest):
                self.run(asking)
            return
        self.asked(self.run(asking), asker, to, ttl)

    @rule(asker=agents, call=st.sampled_from(["c1", "c2"]))
    def ask_by_a_call_that_may_be_replayed(self, asker: str, call: str) -> None:
        number = self.run(self.broker.questions.ask(asker, f"Call {call}?", call_id=call))
        if (asker, call) in self.calls:
            assert number == self.calls[asker, call]
            return
        self.calls[asker, call] = number
        self.asked(number, asker, "operator", None)

    @rule(about=st.sampled_from(["1", "2"]))
    def the_hive_asks(self, about: str) -> None:
        async def raised() -> tuple[QuestionRow, bool]:
            row, new = await self.broker.store.submit(RAISE, (about, int(self.clock.time())))
            self.broker.questions.announce([row])
            return row, new

        row, new = self.run(raised())
        if new:
            self.asked(row.id, "system", "operator", None)
        else:
            assert self.questions[row.id].answer is None

    # --- resolving ---

    @rule(
        number=pick,
        by=people,
        what=st.sampled_from(["answer", "answer", "cancel"]),
        words=st.sampled_from(OPTIONS),
    )
    def resolve(self, number: int, by: str, what: str, words: str) -> None:
        one = self.chosen(number)
        if one is None:
            return
        wrong = self.refusal(one, by, what)
        if wrong is not None:
            with pytest.raises(wrong):
                self.run(self.end(one, by, what, words))
            return
        row = self.run(self.end(one, by, what, words))
        self.ended(one, words if what == "answer" else f"[cancelled by {by}]", by)
        assert (row.answer, row.answerer) == (one.answer, one.answerer)

    @rule(
        number=pick,
        tries=st.lists(st.tuples(people, st.sampled_from(["answer", "cancel"])), min_size=2, max_size=5),
    )
    def resolve_at_once(self, number: int, tries: list[tuple[str, str]]) -> None:
        """Exactly one wins, where one may at all; it is the first of those who may."""
        one = self.chosen(number)
        if one is None:
            return
        may = [(by, what) for by, what in tries if self.refusal(one, by, what) is None]

        async def all_of_them() -> list[QuestionRow | BaseException]:
            ends = (self.end(one, by, what, "drop") for by, what in tries)
            return await asyncio.gather(*ends, return_exceptions=True)

        outcomes = self.run(all_of_them())
        won = [row for row in outcomes if isinstance(row, QuestionRow)]
        assert len(won) == bool(may)
        assert all(isinstance(row, QuestionRow | Forbidden | Conflict) for row in outcomes)
        if may:
            by, what = may[0]
            self.ended(one, "drop" if what == "answer" else f"[cancelled by {by}]", by)

    @rule(name=agents)
    def an_agent_is_destroyed(self, name: str) -> None:
        mine = [one for one in self.waiting() if name in (one.asker, one.target)]
        assert self.run(self.broker.questions.close_of(name, "gone")) == len(mine)
        for one in mine:
            self.ended(one, "[withdrawn: gone]", "system")

    # --- the world ---

    @rule(seconds=st.sampled_from([0.5, 1, 59, 60, DAY]))
    def time_goes_on(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))
        self.settle()

    @rule(seconds=st.sampled_from([-400 * DAY, -30, 30, 400 * DAY]))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule()
    def restart(self) -> None:
        self.run(self.broker.aclose())
        self.open()
        self.go_on()

    @rule(number=pick, by=people, what=st.sampled_from(["answer", "cancel"]), steps=st.integers(0, 6))
    def crash_while_it_is_resolved(self, number: int, by: str, what: str, steps: int) -> None:
        one = self.chosen(number)
        if one is None:
            return
        may = self.refusal(one, by, what) is None
        row = self.crash(self.end(one, by, what, "release"), steps)
        self.open()
        stored = self.run(self.broker.questions.find(one.id))
        if row is not None:
            assert (stored.answer, stored.answerer) == (row.answer, row.answerer)
        if may and stored.answerer == by:
            self.ended(one, stored.answer or "", by)
        self.go_on()

    @rule(asker=agents, to=people, steps=st.integers(0, 6))
    def crash_while_it_is_asked(self, asker: str, to: str, steps: int) -> None:
        if asker == to:
            return
        before = max(self.questions, default=0)
        number = self.crash(self.broker.questions.ask(asker, "Crash?", target=to), steps)
        self.open()
        found = [row.id for row in self.run(self.broker.questions.open()) if row.id > before]
        assert number is None or found == [number]
        if found:
            self.asked(found[0], asker, to, None)
        self.go_on()

    def crash(self, work: Coroutine[Any, Any, T], steps: int) -> T | None:
        async def crash() -> T | None:
            working = asyncio.ensure_future(work)
            for _ in range(steps):
                await asyncio.sleep(0)
            await self.broker.store.abandon()
            [outcome] = await asyncio.gather(working, return_exceptions=True)
            await self.broker.aclose()
            return None if isinstance(outcome, BaseException) else outcome

        return self.run(crash())

    # --- looking ---

    @rule(name=agents)
    def read_mail(self, name: str) -> None:
        """Exactly the mail that there should be: nothing twice, nothing missing."""

        async def drained() -> list[tuple[str, int]]:
            got = []
            while batch := await self.broker.recv(name, max=32, wait_seconds=0):
                got += [(event["event"], event["id"]) for event in (json.loads(one.body) for one in batch)]
                await self.broker.ack_turn(name)
            return got

        assert sorted(self.run(drained())) == sorted(self.mail[name])
        self.mail[name].clear()

    @rule()
    def look_at_everything(self) -> None:
        rows = self.run(self.broker.questions.open())
        assert [row.id for row in rows] == [one.id for one in self.waiting()]
        for one in self.questions.values():
            row = self.run(self.broker.questions.find(one.id))
            assert (row.asker, row.target, row.answer, row.answerer) == (
                one.asker, one.target, one.answer, one.answerer,
            )  # fmt: skip
        mail = self.run(self.broker.inbox(1000))
        assert sorted(json.loads(row.body)["id"] for row in mail) == sorted(
            number for _, number in self.mail["operator"]
        )
        assert self.run(self.broker.store.read(_ledger)) == [
            (one.id, one.answer) for one in sorted(self.questions.values(), key=lambda one: one.id)
            if one.asker == "system" and one.answer is not None
        ]  # fmt: skip

    @invariant()
    def memory_agrees(self) -> None:
        assert {known.id for known in self.broker.questions.open_now()} == {one.id for one in self.waiting()}


def _ledger(conn: sqlite3.Connection) -> list[tuple[int, str]]:
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger'").fetchall():
        return []
    return conn.execute("SELECT question, answer FROM ledger ORDER BY question").fetchall()


def check(examples: int, steps: int, *, random: bool = True) -> None:
    run_state_machine_as_test(
        QuestionsMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not random,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_questions_do_what_the_model_does() -> None:
    check(examples=25, steps=40, random=False)  # the campaign looks for new ones


@pytest.mark.campaign
def test_questions_do_what_the_model_does_for_long() -> None:
    check(examples=3000, steps=120)
