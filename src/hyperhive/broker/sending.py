"""Sending: what a message must be, which chain it belongs to, whether it has been sent before, and may be sent at all.

The limits themselves are in limits.py; what has been sent before is not refused, whatever they say.
"""

from collections.abc import Callable
from functools import lru_cache, partial

from hyperhive.broker import file_refs, guarded, repeats, rows
from hyperhive.broker.bodies import check_body
from hyperhive.broker.deadletters import SetAside
from hyperhive.broker.desk import Desk
from hyperhive.broker.file_refs import Files
from hyperhive.broker.guarded import GuardedMessage, Stored
from hyperhive.broker.inbox import URGENCIES, Entry, Inbox
from hyperhive.broker.limits import Gate
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.broker.repeats import Cause, Effect
from hyperhive.broker.rows import NewMessage
from hyperhive.broker.storms import Storms
from hyperhive.errors import BadRequest, HiveError, InvalidName, LimitReached, NotFound
from hyperhive.names import OPERATOR, SYSTEM, parse_principal
from hyperhive.protocol.types import Receipt, Urgency
from hyperhive.store import Operation

checked_principal = lru_cache(maxsize=4096)(parse_principal)


def level_of(urgency: Urgency) -> int:
    """Urgencies as numbers, for comparison.

    Raises:
        BadRequest: there is no such urgency.
    """
    try:
        return URGENCIES.index(urgency)
    except ValueError:
        raise BadRequest(f"{urgency!r} is no urgency", hint=f"one of {', '.join(URGENCIES)}") from None


class Sending:
    """The way into all inboxes."""

    def __init__(
        self,
        desk: Desk,
        directory: Callable[[str], bool] | None,
        gate: Gate,
        storms: Storms,
        set_aside: SetAside,
        announce: Callable[[list[QuestionRow]], None],
        files: Files | None,
    ) -> None:
        """`announce`: told of the questions that held messages raise; `files`: looks up what bodies refer to."""
        self._desk = desk
        self._directory = directory
        self._gate = gate
        self._set_aside = set_aside
        self._announce = announce
        self._files = files
        self._send_op: Operation[NewMessage, int] = Operation(
            "send", rows.send, applied=self._sent, commutes=True
        )
        self._send_with_files_op: Operation[NewMessage, int] = Operation(
            "send with files", rows.send_with_files, applied=self._sent
        )
        self._send_once_op: Operation[GuardedMessage, Stored] = Operation(
            "send once", partial(guarded.send_once, storms=storms), applied=self._sent_once
        )
        self._find_op: Operation[Effect, Stored | None] = Operation("find sent", guarded.find_sent)

    async def send(
        self, new: NewMessage, dedupe_key: str | None, call_id: str | None, *, repeatable: bool
    ) -> Receipt:
        """Stores the message, unless it was stored before; see `Broker.send`."""
        inbox = self._desk.inboxes.get(new.sender)
        oldest = self._follow(new, inbox) if inbox is not None and inbox.flight else None
        plain = oldest is None and dedupe_key is None and call_id is None
        if plain and self._files is None and self._gate.unlimited:
            return Receipt(id=await self._desk.store.submit(self._send_op, new))
        effect = None
        if not plain:
            effect = Effect(
                sender=new.sender,
                request="send",
                digest=repeats.digest_of(
                    "send", [new.recipient, new.body, dedupe_key, URGENCIES[new.urgency]]
                ),
                cause=None if repeatable else oldest,
                call_id=call_id,
                dedupe_key=dedupe_key,
                now=self._desk.steady(),
            )
        size = len(new.body.encode()) if self._gate.counts_bytes else 0
        try:
            self._gate.check_send(new.sender, new.recipient, size)
        except LimitReached:
            # A turn that runs again is told of what it sent the first time, not refused it.
            found = None if effect is None else await self._desk.store.submit(self._find_op, effect)
            if found is None:
                raise
            return Receipt(id=found.id, duplicate=found.duplicate, held=found.held)
        self._gate.coming(new.recipient, 1)
        try:
            return await self._store(new, effect, size)
        except HiveError:
            self._gate.give_back(new.sender, size)
            raise
        finally:
            self._gate.coming(new.recipient, -1)

    async def _store(self, new: NewMessage, effect: Effect | None, size: int) -> Receipt:
        if self._files is not None and "/" in new.body:
            new.file_refs = await file_refs.refs_of(self._files, new.sender, new.recipient, new.body)
        if effect is None:
            op = self._send_op if new.file_refs is None else self._send_with_files_op
            return Receipt(id=await self._desk.store.submit(op, new))
        stored = await self._desk.store.submit(self._send_once_op, GuardedMessage(new, effect))
        if not stored.new:
            self._gate.give_back(new.sender, size)
        return Receipt(id=stored.id, duplicate=stored.duplicate, held=stored.held)

    def message(self, sender: str, recipient: str, body: str, urgency: Urgency) -> NewMessage:
        """A message that can be stored.

        Raises:
            InvalidName, BadRequest, NotFound: see `Broker.send`.
        """
        checked_principal(sender)
        checked_principal(recipient)
        if recipient == SYSTEM:
            raise InvalidName(recipient, "nobody reads mail to the system")
        if self._directory is not None and recipient != OPERATOR and not self._directory(recipient):
            raise NotFound(
                f"there is no agent named {recipient!r}", hint="`hyperhive list` shows who there is"
            )
        return NewMessage(sender, recipient, check_body(body), self._desk.now(), level_of(urgency))

    def cause_of(self, sender: str) -> Cause | None:
        """The oldest message that this sender has in flight."""
        inbox = self._desk.inboxes.get(sender)
        entries = inbox.in_flight() if inbox is not None else []
        return Cause(entries[0].id, entries[0].attempt) if entries else None

    def _follow(self, new: NewMessage, inbox: Inbox) -> Cause | None:
        """Places a message in the chain of what its sender has in flight; gives the oldest of these."""
        entries = inbox.in_flight()
        if not entries:
            return None
        worst = max(entries, key=lambda entry: entry.hops)
        new.cause, new.hops, new.chain = worst.id, worst.hops + 1, worst.chain or worst.id
        return Cause(entries[0].id, entries[0].attempt)

    def _sent(self, new: NewMessage, number: int) -> None:
        self._desk.arrived(new.recipient, _entry(new, number))

    def _sent_once(self, job: GuardedMessage, stored: Stored) -> None:
        if not stored.new:
            return
        if not stored.held:
            self._sent(job.message, stored.id)
            return
        self._set_aside.was_held(job.message.recipient, _entry(job.message, stored.id))
        if stored.asked is not None:
            self._announce([stored.asked])


def _entry(new: NewMessage, number: int) -> Entry:
    chain = new.chain or number
    return Entry(
        number, new.sender, new.body, new.at, new.urgency, 0, 0, new.hops, chain, file_refs=new.file_refs
    )
