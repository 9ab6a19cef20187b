"""The broker against a model: any order of operations, cancellations, crashes, restarts and clock jumps.

The model is the promise written down: each inbox is a list by id, and every message is in one state. The history
checker looks at the same run from outside.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from hyperhive.broker import Broker, Limits, handout, inbox, rows
from hyperhive.protocol.types import Delivery, Receipt, Urgency
from hyperhive.testing import FakeClock, HistoryChecker

T = TypeVar("T")

NAMES = ("alice", "bob", "carol")
URGENCIES: tuple[Urgency, ...] = ("next_turn", "soon", "interrupt")
DEAD_AFTER = 3

names = st.sampled_from(NAMES)
urgencies = st.sampled_from(URGENCIES)


@dataclass
class Message:
    """What the model knows of one message. `mark` None: a crash may have taken the lease, so either is right."""

    id: int
    sender: str
    recipient: str
    body: str
    urgency: Urgency
    state: str = "pending"
    mark: bool | None = False
    attempt: int = 0
    tries: int = 0
    leased_for_sure: bool = False
    undone: bool = False  # its hand-out was taken back: a kill may take the taking back with it
    sent_in_its_turn: dict[str, tuple[str, int, int]] = field(default_factory=dict)


class BrokerMachine(RuleBasedStateMachine):
    """Each rule does one thing to the broker and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hive-model-"))
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.checker = HistoryChecker()
        self.messages: dict[int, Message] = {}
        self.keys: dict[tuple[str, str], tuple[int, int]] = {}
        self.bodies = 0
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self) -> None:
        async def start() -> Broker:
            return await Broker.open(
                self.directory / "hive.sqlite", clock=self.clock, limits=Limits(dead_after=DEAD_AFTER)
            )

        self.broker = self.run(start())
        self.offset = self.clock.time() - self.clock.monotonic()

    def steady(self) -> int:
        """Between two starts the wall clock's jumps do not count."""
        return int(self.clock.monotonic() + self.offset)

    def teardown(self) -> None:
        self.run(self.broker.aclose())
        self.runner.close()
        shutil.rmtree(self.directory)

    # --- the model ---

    def of(self, name: str, state: str) -> list[Message]:
        found = [one for one in self.messages.values() if one.recipient == name and one.state == state]
        return sorted(found, key=lambda one: one.id)

    def stored(self, sender: str, recipient: str, body: str, urgency: Urgency, receipt: Receipt) -> None:
        assert receipt.id not in self.messages
        assert not self.messages or receipt.id > max(self.messages)
        self.messages[receipt.id] = Message(receipt.id, sender, recipient, body, urgency)
        flight = self.of(sender, "in_flight")
        if flight:
            cause = flight[0]
            cause.leased_for_sure = True
            cause.sent_in_its_turn[body] = (recipient, receipt.id, cause.attempt)

    def handed_out(self, name: str, batch: list[Delivery], limit: int, level: int) -> None:
        waiting = [one for one in self.of(name, "pending") if URGENCIES.index(one.urgency) >= level]
        expected = waiting[:limit]
        assert [one.id for one in batch] == [one.id for one in expected]
        self.checker.delivered(name, batch, min_urgency=level > 0)
        for delivery, message in zip(batch, expected, strict=True):
            assert (delivery.body, delivery.sender, delivery.urgency) == (
                message.body,
                message.sender,
                message.urgency,
            )
            assert message.mark is None or delivery.redelivered == message.mark
            message.state = "in_flight"
            message.leased_for_sure = message.undone = False

    def back(self, message: Message, *, blamed: bool = False) -> None:
        message.state = "pending"
        message.mark = True
        message.attempt += 1
        message.tries += blamed

    def died(self, message: Message) -> None:
        """A dead letter's sender gets mail; found by looking, since its id is not told."""
        message.state = "dead"
        self.checker.buried(message.recipient, [message.body])

    def learn_mail(self) -> None:
        """The system's own mail, as the newest rows of each inbox show it."""
        for name in NAMES:
            for row in self.run(self.broker.recent(name, 100)):
                if row.sender == "system" and row.id not in self.messages:
                    self.messages[row.id] = Message(row.id, "system", name, row.body, "next_turn")
                    self.checker.send_begins(row.body)
                    self.checker.send_ends("system", name, row.body, row.id)

    # --- sends ---

    def next_body(self) -> str:
        self.bodies += 1
        return f"message {self.bodies}"

    @rule(sender=names, recipient=names, urgency=urgencies, key=st.sampled_from([None, None, "k1", "k2"]))
    def send(self, sender: str, recipient: str, urgency: Urgency, key: str | None) -> None:
        body = self.next_body()
        self.checker.send_begins(body)
        receipt = self.run(self.broker.send(sender, recipient, body, urgency=urgency, dedupe_key=key))
        known = self.keys.get((sender, key)) if key else None
        if known is not None and known[1] > self.steady() - 86400:
            assert receipt == Receipt(id=known[0], duplicate=True)
            return
        assert not receipt.duplicate
        self.stored(sender, recipient, body, urgency, receipt)
        self.checker.send_ends(sender, recipient, body, receipt.id)
        if key:
            self.keys[sender, key] = (receipt.id, self.steady())

    @rule(letters=st.lists(st.tuples(names, urgencies), min_size=2, max_size=6), recipient=names)
    def send_at_once(self, letters: list[tuple[str, Urgency]], recipient: str) -> None:
        bodies = [self.next_body() for _ in letters]
        for body in bodies:
            self.checker.send_begins(body)

        async def all_of_them() -> list[Receipt]:
            return await asyncio.gather(
                *(
                    self.broker.send(sender, recipient, body, urgency=urgency)
                    for (sender, urgency), body in zip(letters, bodies, strict=True)
                )
            )

        receipts = self.run(all_of_them())
        by_id = sorted(zip(receipts, letters, bodies, strict=True), key=lambda one: one[0].id)
        for receipt, (sender, urgency), body in by_id:
            self.stored(sender, recipient, body, urgency, receipt)
            self.checker.send_ends(sender, recipient, body, receipt.id)

    @rule(sender=names)
    def send_again_in_a_turn_that_runs_again(self, sender: str) -> None:
        flight = self.of(sender, "in_flight")
        if not flight:
            return
        cause = flight[0]
        for body, (recipient, number, attempt) in cause.sent_in_its_turn.items():
            original = self.messages[number]
            if attempt != cause.attempt:
                receipt = self.run(self.broker.send(sender, recipient, body, urgency=original.urgency))
                assert receipt == Receipt(id=number, duplicate=True)
                cause.sent_in_its_turn[body] = (recipient, number, cause.attempt)
                cause.leased_for_sure = True
                return

    # --- receiving ---

    @rule(name=names, limit=st.integers(1, 4), level=st.integers(0, 2))
    def recv(self, name: str, limit: int, level: int) -> None:
        urgency = URGENCIES[level] if level else None
        self.handed_out(name, self.run(self.broker.recv(name, limit, 0, urgency)), limit, level)

    @rule(name=names, limit=st.integers(1, 4))
    def take_and_undo(self, name: str, limit: int) -> None:
        async def both() -> list[Delivery]:
            lease = await self.broker.take(name, limit, 0)
            lease.undo()
            return lease.deliveries

        batch = self.run(both())
        assert [one.id for one in batch] == [one.id for one in self.of(name, "pending")[:limit]]
        for one in batch:
            self.messages[one.id].undone = True

    @rule(
        name=names,
        limits=st.tuples(st.integers(1, 3), st.integers(1, 5)),
        level=st.integers(0, 2),
        steps=st.integers(0, 4),
    )
    def undo_while_another_receives(self, name: str, limits: tuple[int, int], level: int, steps: int) -> None:
        async def race() -> tuple[list[Delivery], list[Delivery]]:
            urgency = URGENCIES[level] if level else None
            lease = await self.broker.take(name, limits[0], 0, urgency, durable=True)
            other = asyncio.ensure_future(self.broker.recv(name, limits[1], 0))
            for _ in range(steps):
                await asyncio.sleep(0)
            lease.undo()
            return lease.deliveries, await other

        waiting = self.of(name, "pending")
        undone, batch = self.run(race())
        ids, back = [one.id for one in batch], {one.id for one in undone}
        for number in back:
            self.messages[number].undone = True
        # It came before the undoing, or after, or (having had to read on) as it went on.
        without = [one.id for one in waiting if one.id not in back]
        assert ids == sorted(ids)
        assert len(ids) == limits[1] or set(ids) >= set(without)
        assert [one for one in ids if one not in back] == without[: sum(one not in back for one in ids)]
        self.checker.delivered(name, batch, min_urgency=True)
        for number in ids:
            self.messages[number].state = "in_flight"
            self.messages[number].leased_for_sure = self.messages[number].undone = False

    @rule(name=names, sender=names, steps=st.integers(0, 8))
    def cancel_a_waiter_while_a_message_comes(self, name: str, sender: str, steps: int) -> None:
        if sender == name and self.of(name, "pending"):
            return  # whether its own send had a cause depends on whether the waiter had to read on from disk
        body = self.next_body()
        self.checker.send_begins(body)

        async def race() -> tuple[Receipt, list[Delivery]]:
            waiter = asyncio.ensure_future(self.broker.recv(name, 1, 60))
            await asyncio.sleep(0)
            sending = asyncio.ensure_future(self.broker.send(sender, name, body))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiter.cancel()
            receipt = await sending
            try:
                return receipt, await waiter
            except asyncio.CancelledError:
                return receipt, []

        before = self.of(name, "pending")
        receipt, batch = self.run(race())
        if before:  # the waiter found one at once: then its turn began before the send
            self.handed_out(name, batch, len(batch), 0)
            self.stored(sender, name, body, "next_turn", receipt)
        else:
            self.stored(sender, name, body, "next_turn", receipt)
            self.handed_out(name, batch, len(batch), 0)
        self.checker.send_ends(sender, name, body, receipt.id)

    # --- ends ---

    @rule(name=names)
    def ack_turn(self, name: str) -> None:
        flight = self.of(name, "in_flight")
        self.checker.ack_begins([one.body for one in flight])
        assert self.run(self.broker.ack_turn(name)) == len(flight)
        for one in flight:
            one.state = "acked"
        self.checker.ack_ends(name, [one.body for one in flight])

    @rule(name=names, picks=st.lists(st.integers(0, 50), max_size=4))
    def ack_ids(self, name: str, picks: list[int]) -> None:
        # What is drawn must not depend on what happened: threads and crashes make that differ from run to run.
        newest = max(self.messages, default=0)
        ids = [newest + 1 - pick for pick in picks]
        if any(self.messages[one].mark is None for one in ids if one in self.messages):
            return  # whether it was requeued is not known to anyone
        hit = [
            one
            for one in (self.messages[number] for number in set(ids) if number in self.messages)
            if one.recipient == name
            and (one.state == "in_flight" or (one.state == "pending" and one.attempt > 0))
        ]
        self.checker.ack_begins([one.body for one in hit])
        assert self.run(self.broker.ack_turn(name, ids)) == len(hit)
        for one in hit:
            one.state = "acked"
        self.checker.ack_ends(name, [one.body for one in hit])

    @rule(name=names, blame=st.booleans())
    def requeue(self, name: str, blame: bool) -> None:
        flight = self.of(name, "in_flight")
        dead = [one for one in flight if blame and one.tries + 1 >= DEAD_AFTER]
        back = [one for one in flight if one not in dead]
        count = self.run(self.broker.requeue_inflight(name, blame="stuck" if blame else None))
        assert count == len(back)
        for one in back:
            self.back(one, blamed=blame)
        for one in dead:
            one.attempt += 1
            self.died(one)
        self.checker.requeued(name)
        if dead:
            self.learn_mail()

    @rule(name=names)
    def cancel_the_turn(self, name: str) -> None:
        flight = self.of(name, "in_flight")
        if flight:
            assert self.run(self.broker.dead_letter(name, [flight[0].id], "cancelled")) == 1
            flight[0].attempt += 1
            self.died(flight[0])
            self.learn_mail()

    @rule(pick=st.integers(0, 50), drop=st.booleans())
    def dig_up_a_dead_letter(self, pick: int, drop: bool) -> None:
        dead = [one for one in self.messages.values() if one.state == "dead"]
        assert {one.id for one in self.run(self.broker.dead(1000))} == {one.id for one in dead}
        if not dead:
            return
        message = dead[pick % len(dead)]
        if drop:
            self.run(self.broker.drop_dead(message.id))
            message.state = "dropped"
            return
        self.run(self.broker.requeue_dead(message.id))
        message.state, message.tries, message.mark = "pending", 0, True
        self.checker.dug_up(message.body)

    # --- the world ---

    @rule()
    def restart(self) -> None:
        self.run(self.broker.aclose())
        self.open()
        self.requeue_everything(killed=False)

    @rule(sender=names, recipient=names, steps=st.integers(0, 6))
    def crash_while_a_message_is_sent(self, sender: str, recipient: str, steps: int) -> None:
        body = self.next_body()
        self.checker.send_begins(body)

        async def crash() -> Receipt | None:
            sending = asyncio.ensure_future(self.broker.send(sender, recipient, body))
            for _ in range(steps):
                await asyncio.sleep(0)
            await self.broker.store.abandon()
            [outcome] = await asyncio.gather(sending, return_exceptions=True)
            await self.broker.aclose()
            return outcome if isinstance(outcome, Receipt) else None

        receipt = self.run(crash())
        if receipt is not None:
            self.stored(sender, recipient, body, "next_turn", receipt)
            self.checker.send_ends(sender, recipient, body, receipt.id)
        self.open()
        if receipt is None:  # it may have been stored all the same
            for row in self.run(self.broker.recent(recipient, 100)):
                if row.body == body:
                    self.stored(sender, recipient, body, "next_turn", Receipt(id=row.id))
        self.requeue_everything(killed=True)

    def requeue_everything(self, *, killed: bool) -> None:
        for name in NAMES:
            flight = self.of(name, "in_flight")
            count = self.run(self.broker.requeue_inflight(name))
            sure = [one for one in flight if not killed or one.leased_for_sure]
            undone = [one for one in self.of(name, "pending") if one.undone]
            assert len(sure) <= count <= len(flight) + (len(undone) if killed else 0)
            for one in undone:
                one.undone = False
                if killed and not one.mark:
                    one.mark = None
            for one in flight:
                marked_before = one.mark
                self.back(one)
                if one not in sure and not marked_before:
                    one.mark = None
        self.checker.restarted(killed=killed)

    @rule(seconds=st.sampled_from([-400 * 86400, -1, 1, 86400, 400 * 86400]))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule()
    def sweep(self) -> None:
        """Acked messages may go; nothing else notices."""
        self.run(self.broker.vacuum(older_than_days=10_000))
        limit = self.steady() - 86400
        self.keys = {key: (number, at) for key, (number, at) in self.keys.items() if at >= limit}

    @invariant()
    def pending_counts_agree(self) -> None:
        for name in NAMES:
            assert self.broker.pending_now(name) == len(self.of(name, "pending"))
            assert self.broker.in_flight_now(name) == [one.id for one in self.of(name, "in_flight")]


def check(examples: int, steps: int, *, random: bool = True) -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not random,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(("head_count", "examples"), [(1000, 60), (2, 60)], ids=["", "with a short memory"])
def test_the_broker_does_what_the_model_does(
    head_count: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (inbox, handout, rows):
        monkeypatch.setattr(module, "HEAD_COUNT", head_count)
    check(examples=examples, steps=40, random=False)  # the campaign looks for new ones


@pytest.mark.campaign
@pytest.mark.parametrize("head_count", [1000, 3])
def test_the_broker_does_what_the_model_does_for_long(
    head_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (inbox, handout, rows):
        monkeypatch.setattr(module, "HEAD_COUNT", head_count)
    check(examples=3000, steps=120)
