"""The history checker sees each broken promise, and lets legal histories pass."""

import pytest

from hyperhive.protocol.types import Delivery
from hyperhive.testing import HistoryChecker
from hyperhive.testing.checker import Violation


def mail(number: int, *, redelivered: bool = False, sender: str = "alice") -> Delivery:
    return Delivery(
        id=number, sender=sender, recipient="bob", body=f"m{number}", at=0, redelivered=redelivered
    )


@pytest.fixture
def checker() -> HistoryChecker:
    """Three messages were sent to bob, one after the other, and answered."""
    checker = HistoryChecker()
    for number in (1, 2, 3):
        checker.send_begins(f"m{number}")
        checker.send_ends("alice", "bob", f"m{number}", number)
    return checker


def test_a_legal_history_passes(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1), mail(2)])
    checker.requeued("bob")
    checker.delivered("bob", [mail(1, redelivered=True)])
    checker.ack_begins(["m1"])
    checker.ack_ends("bob", ["m1"])
    checker.restarted(killed=True)
    checker.delivered("bob", [mail(2, redelivered=True), mail(3)])
    checker.nothing_lost("bob", ["m2", "m3"])


def test_a_lost_message_is_seen(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1), mail(3)])
    with pytest.raises(Violation, match="lost on the way"):
        checker.nothing_lost("bob", ["m1", "m3"])


def test_a_message_after_its_ack_is_seen(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1)])
    checker.ack_begins(["m1"])
    checker.ack_ends("bob", ["m1"])
    with pytest.raises(Violation, match="after its ack"):
        checker.delivered("bob", [mail(1, redelivered=True)])


def test_two_live_leases_are_seen(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1)])
    with pytest.raises(Violation, match="in flight"):
        checker.delivered("bob", [mail(1, redelivered=True)])


def test_a_missing_mark_is_seen(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1)])
    checker.requeued("bob")
    with pytest.raises(Violation, match="without the mark"):
        checker.delivered("bob", [mail(1)])


def test_a_wrong_mark_is_seen(checker: HistoryChecker) -> None:
    with pytest.raises(Violation, match="first time"):
        checker.delivered("bob", [mail(1, redelivered=True)])


def test_a_wrong_order_is_seen(checker: HistoryChecker) -> None:
    with pytest.raises(Violation, match="came out before"):
        checker.delivered("bob", [mail(2), mail(1)])


def test_an_order_that_nobody_promised_is_legal() -> None:
    checker = HistoryChecker()
    for number in (1, 2):
        checker.send_begins(f"m{number}")
    for number in (1, 2):
        checker.send_ends("alice", "bob", f"m{number}", number)
    checker.delivered("bob", [mail(2), mail(1)])


def test_what_nobody_sent_is_seen(checker: HistoryChecker) -> None:
    with pytest.raises(Violation, match="nobody sent"):
        checker.delivered("bob", [mail(9)])


def test_an_id_given_twice_is_seen(checker: HistoryChecker) -> None:
    checker.send_begins("m4")
    with pytest.raises(Violation, match="was given to"):
        checker.send_ends("alice", "bob", "m4", 3)


def test_a_dead_letter_that_comes_out_is_seen(checker: HistoryChecker) -> None:
    checker.delivered("bob", [mail(1)])
    checker.buried("bob", ["m1"])
    with pytest.raises(Violation, match="dead letter"):
        checker.delivered("bob", [mail(1, redelivered=True)])
