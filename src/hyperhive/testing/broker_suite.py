"""What every broker must do, as cases over its public face alone: a second backend passes them unchanged.

`BROKER_CASES` lists them; a test module runs each with a `BrokerKit` of its own. What a case needs of the backend is in
the kit: to open it, to close it, and to let it die.
"""

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import anyio

from hyperhive.errors import BadRequest, InvalidName
from hyperhive.protocol.types import (
    DeadLetter,
    Delivery,
    InboxRow,
    OperatorInboxRow,
    Receipt,
    Urgency,
)


class MailBroker(Protocol):
    """The face that the cases use; see `hyperhive.broker.Broker` for what each method promises."""

    async def send(
        self,
        sender: str,
        recipient: str,
        body: str,
        *,
        dedupe_key: str | None = None,
        urgency: Urgency = "next_turn",
        call_id: str | None = None,
    ) -> Receipt: ...

    async def recv(
        self,
        recipient: str,
        max: int = 1,  # noqa: A002 - the wire's name
        wait_seconds: float = 30.0,
        min_urgency: Urgency | None = None,
    ) -> list[Delivery]: ...

    async def ack_turn(self, recipient: str, ids: Iterable[int] | None = None) -> int: ...

    async def requeue_inflight(
        self, recipient: str, ids: Iterable[int] | None = None, *, blame: str | None = None
    ) -> int: ...

    async def dead_letter(self, recipient: str, ids: Iterable[int], reason: str) -> int: ...

    async def requeue_dead(self, message_id: int) -> None: ...

    async def dead(self, limit: int = 100) -> list[DeadLetter]: ...

    async def pending(self, recipient: str) -> int: ...

    async def recent(self, recipient: str, limit: int = 30) -> list[InboxRow]: ...

    async def inbox(self, limit: int = 100, *, include_done: bool = False) -> list[OperatorInboxRow]: ...

    async def mark_done(self, ids: Iterable[int]) -> int: ...

    async def vacuum(self, older_than_days: float = 30) -> int: ...


class BrokerKit(Protocol):
    """One broker over a store that outlives it.

    `broker` is open; `restart` closes it and opens the store again; `crash` the same, but as `kill -9` would: what was
    not answered may be lost.
    """

    broker: MailBroker

    async def restart(self) -> None: ...

    async def crash(self) -> None: ...


Case = Callable[[BrokerKit], Awaitable[None]]

DEAD_AFTER: Final = 5


def _told(batch: Iterable[Delivery]) -> list[tuple[str, bool]]:
    return [(message.body, message.redelivered) for message in batch]


async def _send(kit: BrokerKit, *bodies: str, to: str = "bob") -> list[int]:
    return [(await kit.broker.send("alice", to, body)).id for body in bodies]


async def mail_comes_out_in_the_order_of_its_ids(kit: BrokerKit) -> None:
    """First in, first out, each inbox by itself."""
    ids = await _send(kit, "a", "b", "c")
    await _send(kit, "x", to="carol")
    assert ids == sorted(set(ids))
    assert [message.id for message in await kit.broker.recv("bob", 2, 0)] == ids[:2]
    assert [message.id for message in await kit.broker.recv("bob", 9, 0)] == ids[2:]
    assert await kit.broker.recv("bob", 9, 0) == []


async def what_was_answered_survives_a_crash(kit: BrokerKit) -> None:
    """Sends and acks; and what was in flight is in flight, until it is requeued."""
    await _send(kit, "a", "b", "c")
    await kit.broker.recv("bob", 1, 0)
    await kit.broker.ack_turn("bob")
    await kit.broker.recv("bob", 1, 0)
    await _send(kit, "d")
    await kit.crash()
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("c", False), ("d", False)]
    assert await kit.broker.requeue_inflight("bob") == 3
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("b", True), ("c", True), ("d", True)]


async def a_reader_wakes_at_once_and_alone(kit: BrokerKit) -> None:
    """Of two who wait, the first gets the first message."""
    got: list[tuple[int, str]] = []

    async def reader(number: int) -> None:
        got.extend((number, message.body) for message in await kit.broker.recv("bob", 1, math.inf))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in (1, 2):
                group.start_soon(reader, number)
                await anyio.wait_all_tasks_blocked()
            await _send(kit, "a", "b")
    assert got == [(1, "a"), (2, "b")]


async def a_reader_that_goes_away_takes_nothing(kit: BrokerKit) -> None:
    """Cancelled while it waits."""
    async with anyio.create_task_group() as group:
        group.start_soon(kit.broker.recv, "bob", 1, math.inf)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    await _send(kit, "a")
    assert _told(await kit.broker.recv("bob", 1, 0)) == [("a", False)]


async def an_ack_covers_its_own_and_only_its_own(kit: BrokerKit) -> None:
    """By ids: what is in flight with this recipient. Without: what was popped since the last ack or requeue."""
    first, second, third = await _send(kit, "a", "b", "c")
    await kit.broker.recv("bob", 2, 0)
    assert await kit.broker.ack_turn("carol", [first]) == 0
    assert await kit.broker.ack_turn("bob", [first, third]) == 1
    assert await kit.broker.requeue_inflight("bob") == 1
    assert await kit.broker.ack_turn("bob") == 0
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("b", True), ("c", False)]
    assert await kit.broker.ack_turn("bob", [second, second]) == 1
    assert await kit.broker.ack_turn("bob") == 1


async def an_ack_that_comes_just_after_a_requeue_counts(kit: BrokerKit) -> None:
    """Until the message is handed out again."""
    first, _ = await _send(kit, "a", "b")
    await kit.broker.recv("bob", 2, 0)
    await kit.broker.requeue_inflight("bob")
    assert await kit.broker.ack_turn("bob", [first]) == 1
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("b", True)]


async def an_acked_message_never_comes_again(kit: BrokerKit) -> None:
    """Not by a requeue, not after a crash, not by a sweep."""
    await _send(kit, "a")
    await kit.broker.recv("bob", 1, 0)
    await kit.broker.ack_turn("bob")
    assert await kit.broker.requeue_inflight("bob") == 0
    await kit.crash()
    await kit.broker.vacuum(older_than_days=0)
    assert await kit.broker.requeue_inflight("bob") == 0
    assert await kit.broker.recv("bob", 1, 0) == []


async def ids_are_never_used_again(kit: BrokerKit) -> None:
    """Also when everything was swept."""
    [first] = await _send(kit, "a")
    await kit.broker.recv("bob", 1, 0)
    await kit.broker.ack_turn("bob")
    await kit.broker.vacuum(older_than_days=-1)
    await kit.restart()
    [second] = await _send(kit, "b")
    assert second > first


async def a_poisonous_message_is_given_up(kit: BrokerKit) -> None:
    """After so many failures of its own; other failures do not count; its sender is told."""
    [number] = await _send(kit, "poison")
    for _ in range(DEAD_AFTER + 1):
        await kit.broker.recv("bob", 1, 0)
        await kit.broker.requeue_inflight("bob")
    for _ in range(DEAD_AFTER):
        assert await kit.broker.dead() == []
        await kit.broker.recv("bob", 1, 0)
        await kit.broker.requeue_inflight("bob", blame="stuck")
    [letter] = await kit.broker.dead()
    assert (letter.id, letter.reason, letter.tries) == (number, "stuck", DEAD_AFTER)
    [mail] = await kit.broker.recv("alice", 9, 0)
    assert mail.sender == "system"
    assert "stuck" in mail.body


async def a_dead_letter_is_dug_up_by_hand(kit: BrokerKit) -> None:
    """At its old place, marked, and as if it had never failed."""
    first, _ = await _send(kit, "a", "b")
    await kit.broker.recv("bob", 1, 0)
    assert await kit.broker.dead_letter("bob", [first], "cancelled") == 1
    await kit.restart()
    await kit.broker.requeue_dead(first)
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("a", True), ("b", False)]


async def a_dedupe_key_stores_once(kit: BrokerKit) -> None:
    """For the same sender, over a restart too."""
    first = await kit.broker.send("alice", "bob", "hi", dedupe_key="k")
    assert await kit.broker.send("alice", "bob", "hi", dedupe_key="k") == Receipt(id=first.id, duplicate=True)
    await kit.restart()
    assert (await kit.broker.send("alice", "bob", "hi", dedupe_key="k")).duplicate
    assert not (await kit.broker.send("carol", "bob", "hi", dedupe_key="k")).duplicate


async def a_call_is_answered_alike_each_time(kit: BrokerKit) -> None:
    """A client that lost the answer asks again."""
    first = await kit.broker.send("alice", "bob", "hi", call_id="c")
    await kit.crash()
    assert await kit.broker.send("alice", "bob", "hi", call_id="c") == first
    assert await kit.broker.pending("bob") == 1


async def a_turn_that_runs_again_sends_nothing_twice(kit: BrokerKit) -> None:
    """Equal sends of one turn both happen, and both are recognised when the turn runs again, after a crash too."""
    await _send(kit, "do it")
    await kit.broker.recv("bob", 1, 0)
    ids = [(await kit.broker.send("bob", "carol", "same")).id for _ in range(2)]
    await kit.crash()
    await kit.broker.requeue_inflight("bob")
    await kit.broker.recv("bob", 1, 0)
    again = [await kit.broker.send("bob", "carol", "same") for _ in range(3)]
    assert [receipt.id for receipt in again[:2]] == ids
    assert [receipt.duplicate for receipt in again] == [True, True, False]


async def urgent_mail_can_be_asked_for(kit: BrokerKit) -> None:
    """In order among itself; the rest keeps its place."""
    await _send(kit, "a")
    await kit.broker.send("alice", "bob", "b", urgency="soon")
    await kit.broker.send("alice", "bob", "c", urgency="interrupt")
    assert _told(await kit.broker.recv("bob", 9, 0, "soon")) == [("b", False), ("c", False)]
    assert _told(await kit.broker.recv("bob", 9, 0)) == [("a", False)]


async def the_operators_mail_piles_up(kit: BrokerKit) -> None:
    """Until it is marked done; nobody pops it."""
    first, _ = await _send(kit, "a", "b", to="operator")
    try:
        await kit.broker.recv("operator", 1, 0)
    except BadRequest:
        pass
    else:
        raise AssertionError("the operator's mail was handed out")
    assert await kit.broker.mark_done([first, first]) == 1
    await kit.restart()
    assert [row.body for row in await kit.broker.inbox()] == ["b"]
    assert [row.body for row in await kit.broker.inbox(include_done=True)] == ["b", "a"]


async def looking_delivers_nothing(kit: BrokerKit) -> None:
    """`recent` shows the newest first, whatever became of them."""
    await _send(kit, "a", "b")
    await kit.broker.recv("bob", 1, 0)
    await kit.broker.ack_turn("bob")
    assert [row.body for row in await kit.broker.recent("bob")] == ["b", "a"]
    assert await kit.broker.pending("bob") == 1


async def what_cannot_be_stored_is_refused(kit: BrokerKit) -> None:
    """Blank, too long, no text, no name: one clear error, and nothing is stored."""
    for body in ("", " \n", "a\0b", "\ud800", "x" * (256 * 1024 + 1)):
        try:
            await kit.broker.send("alice", "bob", body)
        except BadRequest:
            continue
        raise AssertionError(f"{body[:10]!r} was stored")
    for name in ("", "Bob", "root", "system", "a\n"):
        try:
            await kit.broker.send("alice", name, "hi")
        except InvalidName:
            continue
        raise AssertionError(f"mail to {name!r} was stored")
    assert await kit.broker.pending("bob") == 0


BROKER_CASES: Final[tuple[Case, ...]] = (
    mail_comes_out_in_the_order_of_its_ids,
    what_was_answered_survives_a_crash,
    a_reader_wakes_at_once_and_alone,
    a_reader_that_goes_away_takes_nothing,
    an_ack_covers_its_own_and_only_its_own,
    an_ack_that_comes_just_after_a_requeue_counts,
    an_acked_message_never_comes_again,
    ids_are_never_used_again,
    a_poisonous_message_is_given_up,
    a_dead_letter_is_dug_up_by_hand,
    a_dedupe_key_stores_once,
    a_call_is_answered_alike_each_time,
    a_turn_that_runs_again_sends_nothing_twice,
    urgent_mail_can_be_asked_for,
    the_operators_mail_piles_up,
    looking_delivers_nothing,
    what_cannot_be_stored_is_refused,
)
