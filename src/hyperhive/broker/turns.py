"""How handed-out messages end: acked with a turn that ended well, or requeued.

Memory says at once what is being done to a message (`Entry.claim`), so that nothing is done to it twice; the commit
says what became of it. Knows nothing of turns but the number that events carry.
"""

from collections.abc import Iterable

from hyperhive.broker import rows
from hyperhive.broker.desk import Desk
from hyperhive.broker.handout import Handout
from hyperhive.broker.inbox import Claim, Entry, Inbox
from hyperhive.broker.repeats import blame_effect
from hyperhive.broker.rows import Ack, Requeue, Requeued
from hyperhive.errors import HiveError
from hyperhive.store import Operation


class Turns:
    """Acks and requeues of all inboxes."""

    def __init__(self, desk: Desk, handout: Handout, dead_after: int) -> None:
        self._desk = desk
        self._handout = handout
        self._dead_after = dead_after
        self._ack_op: Operation[Ack, dict[int, int]] = Operation(
            "ack", rows.ack, applied=self._acked, failed=self._ack_failed
        )
        self._requeue_op: Operation[Requeue, Requeued] = Operation(
            "requeue", rows.requeue, applied=self._requeued, failed=self._requeue_failed
        )

    # --- ack ---

    async def ack(self, inbox: Inbox, ids: Iterable[int] | None, taken: bool, turn: int | None) -> int:
        """Acks; see `Broker.ack_turn`."""
        sure: list[int] = []
        maybe: list[int] = []
        if ids is None:
            sure = [self._claim_ack(entry) for entry in inbox.in_flight()]
        else:
            for number in sorted({*ids, *inbox.taken} if taken else set(ids)):
                entry = inbox.flight.get(number)
                if entry is not None and entry.claim is Claim.NONE:
                    sure.append(self._claim_ack(entry))
                elif self._may_ack(inbox, number, entry):
                    maybe.append(number)
        if not sure and not maybe:
            return 0
        self._handout.acked(sure)
        job = Ack(inbox.name, sure, maybe, self._desk.now(), turn)
        done = await self._desk.store.submit(self._ack_op, job)
        return len(sure) + len(done)

    @staticmethod
    def _claim_ack(entry: Entry) -> int:
        entry.claim = Claim.ACK
        return entry.id

    def _may_ack(self, inbox: Inbox, number: int, entry: Entry | None) -> bool:
        """Only just requeued, and not handed out again: an ack that comes a moment late still counts."""
        if entry is not None:
            if entry.claim is not Claim.REQUEUE:
                return False
            entry.claim = Claim.ACK
            return True
        waiting = inbox.find_waiting(number)
        if waiting is None:
            return number > inbox.loaded_through and any(inbox.tail)
        if waiting.attempt == 0:
            return False
        inbox.remove_waiting(number)
        inbox.flight[number] = waiting
        waiting.claim = Claim.ACK
        waiting.back = True
        return True

    def _acked(self, job: Ack, done: dict[int, int]) -> None:
        inbox = self._desk.inbox(job.recipient)
        for number in (*job.sure, *done):
            if inbox.flight.pop(number, None) is None:
                if number not in done:  # buried by a purge that was queued before
                    continue
                inbox.forget_waiting(number, done[number])
            inbox.taken.discard(number)
            self._desk.say_state(number, "acked", job.turn)
        if len(done) < len(job.maybe):
            self._let_go(inbox, [number for number in job.maybe if number not in done])

    def _ack_failed(self, job: Ack, error: HiveError) -> None:
        del error  # the caller gets it
        self._let_go(self._desk.inbox(job.recipient), [*job.sure, *job.maybe])

    def _let_go(self, inbox: Inbox, ids: Iterable[int]) -> None:
        """Claimed, but nothing came of it: as before."""
        entries = [inbox.flight[number] for number in ids if number in inbox.flight]
        back = [entry for entry in entries if entry.back]
        for entry in entries:
            entry.claim = Claim.NONE
        for entry in back:
            del inbox.flight[entry.id]
        self._desk.put_back(inbox, back)

    # --- requeue ---

    async def requeue(
        self,
        inbox: Inbox,
        ids: Iterable[int] | None,
        blame: str | None,
        turn: int | None,
        call_id: str | None = None,
    ) -> int:
        """Requeues; see `Broker.requeue_inflight`."""
        wanted = None if ids is None else set(ids)
        entries = [entry for entry in inbox.in_flight() if wanted is None or entry.id in wanted]
        if not entries:
            return 0
        for entry in entries:
            entry.claim = Claim.REQUEUE
        pairs = [(entry.id, entry.attempt) for entry in entries]
        effect = None
        if blame is not None and call_id is not None:
            effect = blame_effect(inbox.name, call_id, self._desk.steady())
        job = Requeue(inbox.name, pairs, blame, self._dead_after, self._desk.now(), turn, effect)
        waiting = self._desk.store.submit(self._requeue_op, job)
        self._handout.close_leases()
        return len((await waiting).back)

    def _requeued(self, job: Requeue, result: Requeued) -> None:
        inbox = self._desk.inbox(job.recipient)
        back: list[Entry] = []
        for number in result.back:
            inbox.taken.discard(number)
            entry = inbox.flight.get(number)
            if entry is None:
                continue
            entry.attempt += 1
            entry.tries += result.blamed
            if entry.claim is Claim.REQUEUE:
                del inbox.flight[number]
                back.append(entry)
                self._desk.say_state(number, "pending", job.turn, job.blame)
            else:  # an ack came in between, and will take it
                entry.back = True
        for number in result.dead:
            inbox.taken.discard(number)
            inbox.flight.pop(number, None)
            self._desk.say_state(number, "dead", job.turn, job.blame)
        self._desk.put_back(inbox, back)
        self._desk.mailed(result.mail)

    def _requeue_failed(self, job: Requeue, error: HiveError) -> None:
        del error  # the caller gets it
        flight = self._desk.inbox(job.recipient).flight
        for number, _ in job.entries:
            entry = flight.get(number)
            if entry is not None and entry.claim is Claim.REQUEUE:
                entry.claim = Claim.NONE
