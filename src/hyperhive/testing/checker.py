"""`HistoryChecker`: was this history of a broker a legal one?

Every operation is noted as it begins and as it ends; one that never ended (the process was killed, the disk refused)
may have happened or not. Knows nothing of how a broker works, only what it promises. Used by every fault test.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable

from hyperhive.protocol.types import Delivery


class Violation(AssertionError):
    """A promise was broken."""


class HistoryChecker:
    """Notes what one sees of a broker from outside, and raises at the first thing that may not be.

    Messages are known by their bodies, which must be unique to a send (a send that is said again on purpose uses the
    same body). Promises: no answered send is lost; nothing is handed out after its ack was answered; nothing is
    handed out twice while it is in flight; a message that comes again is marked, and only such a one; each sender's
    messages to one recipient come out in the order in which their sends were answered.
    """

    def __init__(self) -> None:
        self._steps = itertools.count(1)
        self._begun: dict[str, int] = {}
        self._sent: dict[str, tuple[str, str, int, int, int]] = {}
        self._acking: set[str] = set()
        self._acked: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._flight: dict[str, set[str]] = defaultdict(set)
        self._handed_out: dict[str, int] = defaultdict(int)
        self._lease_may_be_lost: set[str] = set()
        self._first_out: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._gone: set[str] = set()
        self._may_have_been_out: set[str] = set()

    # --- sends ---

    def send_begins(self, body: str) -> None:
        """A send was called."""
        self._begun.setdefault(body, next(self._steps))

    def send_ends(self, sender: str, recipient: str, body: str, message_id: int) -> None:
        """A send was answered."""
        other = self._ids.setdefault(message_id, body)
        if other != body:
            raise Violation(f"id {message_id} was given to {other!r} and to {body!r}")
        if body not in self._sent:
            self._sent[body] = (sender, recipient, message_id, self._begun[body], next(self._steps))

    # --- deliveries ---

    def delivered(self, recipient: str, batch: Iterable[Delivery], *, min_urgency: bool = False) -> None:
        """Messages were handed out; `min_urgency`: out of turn, so that their order says nothing."""
        for message in batch:
            self._delivered_one(recipient, message, out_of_turn=min_urgency)

    def _delivered_one(self, recipient: str, message: Delivery, *, out_of_turn: bool) -> None:
        body = message.body
        if body not in self._begun:
            raise Violation(f"{recipient} got {body!r}, which nobody sent")
        if body in self._acked:
            raise Violation(f"{recipient} got {body!r} after its ack was answered")
        if body in self._gone:
            raise Violation(f"{recipient} got {body!r}, which is a dead letter")
        if body in self._flight[recipient]:
            raise Violation(f"{recipient} got {body!r} while it was in flight")
        self._ids.setdefault(message.id, body)
        if self._ids[message.id] != body:
            raise Violation(f"id {message.id} came with two bodies")
        before = self._handed_out[body]
        if message.redelivered and not before and body not in self._may_have_been_out:
            raise Violation(f"{body!r} was marked as redelivered, and came for the first time")
        if before and not message.redelivered and body not in self._lease_may_be_lost:
            raise Violation(f"{body!r} came again without the mark")
        self._lease_may_be_lost.discard(body)
        self._handed_out[body] += 1
        self._flight[recipient].add(body)
        if not before and not out_of_turn:
            self._in_order(recipient, message)

    def _in_order(self, recipient: str, message: Delivery) -> None:
        earlier = self._first_out[message.sender, recipient]
        mine = self._sent.get(message.body)
        if mine is not None:
            for body in earlier:
                theirs = self._sent.get(body)
                if theirs is not None and theirs[3] > mine[4]:
                    raise Violation(f"{body!r} came out before {message.body!r}, which was sent before it")
        earlier.append(message.body)

    def undone(self, recipient: str, batch: Iterable[Delivery]) -> None:
        """A hand-out was taken back: it never happened."""
        for message in batch:
            self._flight[recipient].discard(message.body)
            self._handed_out[message.body] -= 1
            self._lease_may_be_lost.add(message.body)
            kept = self._first_out[message.sender, recipient]
            if message.body in kept:
                kept.remove(message.body)

    # --- ends ---

    def ack_begins(self, bodies: Iterable[str]) -> None:
        """An ack of these was called: from now on they may be gone."""
        self._acking.update(bodies)

    def ack_ends(self, recipient: str, bodies: Iterable[str]) -> None:
        """An ack of these was answered."""
        for body in bodies:
            self._acked[body] = next(self._steps)
            self._flight[recipient].discard(body)

    def requeued(self, recipient: str, bodies: Iterable[str] | None = None) -> None:
        """A requeue was answered: of these, or of all that was in flight."""
        flight = self._flight[recipient]
        flight.difference_update(tuple(flight) if bodies is None else tuple(bodies))

    def buried(self, recipient: str, bodies: Iterable[str]) -> None:
        """These became dead letters."""
        for body in bodies:
            self._gone.add(body)
            self._flight[recipient].discard(body)

    def dug_up(self, body: str) -> None:
        """A dead letter waits again."""
        self._gone.discard(body)

    def restarted(self, *, killed: bool) -> None:
        """The broker was closed or killed, and opened again; everything in flight was requeued."""
        if killed:  # what was handed out in the moment of death, nobody has seen
            self._may_have_been_out.update(self._begun)
        for recipient, flight in self._flight.items():
            if killed:
                self._lease_may_be_lost.update(flight)
            self.requeued(recipient)

    # --- the end ---

    def sent_to(self, recipient: str) -> set[str]:
        """Bodies of all answered sends to this name."""
        return {body for body, sent in self._sent.items() if sent[1] == recipient}

    def nothing_lost(self, recipient: str, drained: Iterable[str]) -> None:
        """After `drained` was handed out and nothing waits any more: every answered send has come out."""
        out = {*drained, *self._acked, *self._acking, *self._gone, *self._flight[recipient]}
        lost = self.sent_to(recipient) - out
        if lost:
            raise Violation(f"lost on the way to {recipient}: {sorted(lost)[:10]} ({len(lost)} in all)")
