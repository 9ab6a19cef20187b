"""Messages that are set aside: dead letters and held ones.

Gives up, lists, releases and drops them. When a message is to be given up or held is decided elsewhere (the requeue
that counted to `dead_after`, the harness that was cancelled, the operator who purges; storms.py).
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from hyperhive.broker import listings
from hyperhive.broker.desk import Desk
from hyperhive.broker.inbox import Claim, Entry
from hyperhive.broker.listings import Buried, Bury, Unpark, Unparked
from hyperhive.errors import HiveError
from hyperhive.protocol.types import DeadLetter
from hyperhive.store import Operation

Parked = Literal["dead", "held"]


class SetAside:
    """The parked messages of all inboxes."""

    def __init__(self, desk: Desk) -> None:
        self.held: Counter[str] = Counter()
        """How many messages are held in each inbox."""
        self._desk = desk
        self._bury_op: Operation[Bury, Buried] = Operation(
            "bury", listings.bury_all, applied=self._buried, failed=self._bury_failed
        )
        self._unpark_op: Operation[Unpark, Unparked] = Operation(
            "unpark", listings.unpark, applied=self._unparked
        )

    async def bury(self, recipient: str, ids: Iterable[int], reason: str, turn: int | None) -> int:
        """Makes dead letters of messages in flight; those that are not are ignored."""
        inbox = self._desk.inbox(recipient)
        wanted = set(ids)
        entries = [entry for entry in inbox.in_flight() if entry.id in wanted]
        for entry in entries:
            entry.claim = Claim.PARK
        job = Bury(recipient, [entry.id for entry in entries], reason, self._desk.now(), turn)
        return len((await self._desk.store.submit(self._bury_op, job)).ids) if entries else 0

    async def purge(self, recipient: str, reason: str) -> int:
        """Makes dead letters of all that is not done."""
        job = Bury(recipient, None, reason, self._desk.now())
        return len((await self._desk.store.submit(self._bury_op, job)).ids)

    def _buried(self, job: Bury, result: Buried) -> None:
        inbox = self._desk.inbox(job.recipient)
        if job.ids is None:
            inbox.clear()
            self.held.pop(job.recipient, None)
        for number in job.ids or ():
            inbox.flight.pop(number, None)
            inbox.taken.discard(number)
        for number in result.ids:
            self._desk.say_state(number, "dead", job.turn, job.reason)
        self._desk.mailed(result.mail)

    def _bury_failed(self, job: Bury, error: HiveError) -> None:
        del error  # the caller gets it
        flight = self._desk.inbox(job.recipient).flight
        for number in job.ids or ():
            if number in flight and flight[number].claim is Claim.PARK:
                flight[number].claim = Claim.NONE

    async def release(self, message_id: int, parked: Parked) -> None:
        """Lets it wait again, at the place that its id gives it."""
        await self._desk.store.submit(
            self._unpark_op, Unpark(message_id, parked, drop=False, at=self._desk.now())
        )

    async def drop(self, message_id: int, parked: Parked) -> None:
        """Ends it for good."""
        await self._desk.store.submit(
            self._unpark_op, Unpark(message_id, parked, drop=True, at=self._desk.now())
        )

    def was_held(self, recipient: str, entry: Entry) -> None:
        """A message is durable, and held."""
        self.held[recipient] += 1
        self._desk.inbox(recipient).recent.append(entry.id)
        self._desk.say_sent(recipient, entry)
        self._desk.say_state(entry.id, "held")

    def no_longer_held(self, recipient: str, count: int = 1) -> None:
        """So many held messages of an inbox were released, dropped or given up."""
        self.held[recipient] -= count
        if not self.held[recipient]:
            del self.held[recipient]

    def _unparked(self, job: Unpark, result: Unparked) -> None:
        if job.parked == "held":
            self.no_longer_held(result.recipient)
        if job.drop:
            self._desk.say_state(job.id, "acked", note="dropped")
            return
        self._desk.say_state(job.id, "pending")
        self._desk.put_back(self._desk.inbox(result.recipient), [result.entry])

    async def list(self, limit: int) -> list[DeadLetter]:
        """Dead letters, newest first."""
        return await self._desk.store.read(lambda conn: listings.dead_rows(conn, limit))
