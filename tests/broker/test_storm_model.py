"""The loop breaker against a model: turns in any order, the operator's word, crashes, restarts and clock jumps.

The model is the promise written down: which message of a chain is held, what a release grants, what a drop ends.
"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hyperhive.broker import Broker, Limits
from hyperhive.errors import LimitReached
from hyperhive.protocol.types import Receipt
from hyperhive.testing import FakeClock

T = TypeVar("T")

NAMES = ("alice", "bob", "carol")
HOPS, RATE, WINDOW = 2, 4, 600
LIMITS = Limits(hop_limit=HOPS, pair_rate=RATE, pair_seconds=WINDOW)

names = st.sampled_from(NAMES)
recipients = st.lists(st.sampled_from((*NAMES, "operator")), max_size=3)


@dataclass
class Message:
    id: int
    recipient: str
    hops: int
    chain: int
    state: str = "pending"


@dataclass
class Chain:
    state: str = "open"
    granted: int = 0
    sent: dict[tuple[str, ...], list[int]] = field(default_factory=lambda: defaultdict(list))


class StormMachine(RuleBasedStateMachine):
    """Each rule does one thing to the broker and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hive-storm-"))
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.messages: dict[int, Message] = {}
        self.chains: dict[int, Chain] = defaultdict(Chain)
        self.bodies = 0
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self) -> None:
        async def start() -> Broker:
            return await Broker.open(self.directory / "hive.sqlite", clock=self.clock, limits=LIMITS)

        self.broker = self.run(start())
        self.offset = self.clock.time() - self.clock.monotonic()

    def teardown(self) -> None:
        self.run(self.broker.aclose())
        self.runner.close()
        shutil.rmtree(self.directory)

    # --- the model ---

    def of(self, name: str, state: str) -> list[Message]:
        found = [one for one in self.messages.values() if (one.recipient, one.state) == (name, state)]
        return sorted(found, key=lambda one: one.id)

    def verdict(self, sender: str, recipient: str, cause: Message) -> str:
        """What becomes of a message that `sender` writes while it works `cause`; counts it."""
        chain, hops = self.chains[cause.chain], cause.hops + 1
        if recipient == "operator":
            return "pending"
        if chain.state != "open":
            return "held" if chain.state == "held" else "refused"
        steady = int(self.clock.monotonic() + self.offset)
        pair = tuple(sorted((sender, recipient)))
        lately = [at for at in chain.sent[pair] if steady - WINDOW < at <= steady]
        if hops > HOPS + chain.granted or len(lately) >= RATE:
            chain.state = "held"
            return "held"
        chain.sent[pair] = [*lately, steady]
        return "pending"

    def stored(self, number: int, recipient: str, cause: Message, state: str) -> None:
        assert number not in self.messages
        self.messages[number] = Message(number, recipient, cause.hops + 1, cause.chain, state)

    def send(self, sender: str, recipient: str, body: str, cause: Message) -> Receipt | None:
        """Sends, and compares what came of it with what should have."""
        expected = self.verdict(sender, recipient, cause)
        try:
            receipt = self.run(self.broker.send(sender, recipient, body))
        except LimitReached:
            assert expected == "refused"
            return None
        assert (receipt.held, receipt.duplicate) == (expected == "held", False)
        self.stored(receipt.id, recipient, cause, expected)
        return receipt

    def take(self, name: str) -> Message | None:
        batch = self.run(self.broker.recv(name, 1, 0))
        waiting = self.of(name, "pending")
        assert [one.id for one in batch] == [one.id for one in waiting[:1]]
        return waiting[0] if waiting else None

    def next_body(self) -> str:
        self.bodies += 1
        return f"message {self.bodies}"

    # --- rules ---

    @rule(name=names)
    def begin_a_chain(self, name: str) -> None:
        number = self.run(self.broker.send("operator", name, self.next_body())).id
        self.messages[number] = Message(number, name, 0, number)

    @rule(name=names, to=recipients, again=st.booleans())
    def turn(self, name: str, to: list[str], again: bool) -> None:
        message = self.take(name)
        if message is None:
            return
        sent = [(recipient, self.next_body()) for recipient in to]
        receipts = [self.send(name, recipient, body, message) for recipient, body in sent]
        if again:
            self.run(self.broker.requeue_inflight(name))
            assert self.take(name) is message
            for (recipient, body), receipt in zip(sent, receipts, strict=True):
                if receipt is not None:
                    repeated = self.run(self.broker.send(name, recipient, body))
                    assert repeated == Receipt(id=receipt.id, duplicate=True, held=receipt.held)
        self.run(self.broker.ack_turn(name))
        message.state = "acked"

    @rule(
        one=names,
        other=names,
        times=st.integers(2, 6),
        rounds=st.integers(1, 3),
        seconds=st.integers(0, 300),
        again=st.booleans(),
    )
    def argue(self, one: str, other: str, times: int, rounds: int, seconds: int, again: bool) -> None:
        """Two answer each other for a while, and go on whenever the operator has let them."""
        if not self.of(one, "pending"):
            self.begin_a_chain(one)
        for _ in range(rounds):
            for _turn in range(times):
                self.turn(one, [other], again=again)
                self.time_goes_by(seconds)
                one, other = other, one
            self.the_operator_decides(0, "release")

    @rule(name=names, recipient=names, steps=st.integers(0, 6))
    def crash_in_a_turn_which_runs_again(self, name: str, recipient: str, steps: int) -> None:
        message = self.take(name)
        if message is None:
            return
        body = self.next_body()

        async def crash() -> None:
            sending = asyncio.ensure_future(self.broker.send(name, recipient, body))
            for _ in range(steps):
                await asyncio.sleep(0)
            await self.broker.store.abandon()
            await asyncio.gather(sending, return_exceptions=True)
            await self.broker.aclose()

        self.run(crash())
        found = self.find(body)
        if found is not None:  # it was stored, by the clock of then
            expected = self.verdict(name, recipient, message)
            self.stored(found, recipient, message, expected)
        self.open()
        self.run(self.broker.requeue_inflight(name))
        assert self.take(name) is message
        if found is None:
            self.send(name, recipient, body, message)
        else:
            held = self.messages[found].state == "held"
            receipt = self.run(self.broker.send(name, recipient, body))
            assert receipt == Receipt(id=found, duplicate=True, held=held)
        self.run(self.broker.ack_turn(name))
        message.state = "acked"

    def find(self, body: str) -> int | None:
        conn = sqlite3.connect(self.directory / "hive.sqlite")
        row = conn.execute("SELECT id FROM messages WHERE body = ?", (body,)).fetchone()
        conn.close()
        return None if row is None else int(row[0])

    @rule(pick=st.integers(0, 10), word=st.sampled_from(["release", "release", "drop"]))
    def the_operator_decides(self, pick: int, word: str) -> None:
        questions = self.run(self.broker.questions.open("operator"))
        if not questions:
            return
        question = questions[pick % len(questions)]
        self.run(self.broker.questions.answer(question.id, word, by="operator"))
        number = int(question.about)
        chain = self.chains[number]
        chain.sent.clear()
        chain.state = "open" if word == "release" else "ended"
        chain.granted += HOPS if word == "release" else 0
        for one in self.messages.values():
            if one.state == "held" and one.chain == number:
                one.state = "pending" if word == "release" else "dead"
        self.learn_mail(number)

    def learn_mail(self, chain: int) -> None:
        """The system's own mail about dead letters, found by looking; its hops do not matter in an ended chain."""
        for name in NAMES:
            for row in self.run(self.broker.recent(name, 100)):
                if row.sender == "system" and row.id not in self.messages:
                    self.messages[row.id] = Message(row.id, name, 0, chain)

    @rule(seconds=st.integers(1, 700))
    def time_goes_by(self, seconds: int) -> None:
        self.run(self.clock.advance(seconds))

    @rule(seconds=st.sampled_from([-400 * 86400, -100, 100, 400 * 86400]))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        if killed:
            self.run(self.broker.store.abandon())
        self.run(self.broker.aclose())
        self.open()

    # --- what always holds ---

    @invariant()
    def every_message_is_where_it_should_be(self) -> None:
        for name in NAMES:
            assert self.broker.pending_now(name) == len(self.of(name, "pending"))
            assert self.broker.held_now(name) == len(self.of(name, "held"))
        dead = {letter.id for letter in self.run(self.broker.dead(1000))}
        assert dead == {one.id for one in self.messages.values() if one.state == "dead"}

    @invariant()
    def the_operator_is_asked_once_about_each_held_chain(self) -> None:
        asked = [int(one.about) for one in self.run(self.broker.questions.open("operator"))]
        assert sorted(asked) == sorted(number for number, one in self.chains.items() if one.state == "held")


def check(examples: int, steps: int, *, random: bool = True) -> None:
    run_state_machine_as_test(
        StormMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not random,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_loop_breaker_does_what_the_model_does() -> None:
    check(examples=20, steps=25, random=False)  # the campaign looks for new ones


@pytest.mark.campaign
def test_the_loop_breaker_does_what_the_model_does_for_long() -> None:
    check(examples=1500, steps=120)
