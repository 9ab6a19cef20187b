"""`Limits`: what the broker counts to; `Gate`: who may send how much to whom, before anything is stored.

Kept in memory on the monotonic clock, so that a refusal costs nothing; a restart starts every count anew. Chains of
messages, which are held rather than refused, are the business of storms.py. The operator and the system are not
counted, and may write to anybody; anybody may write to the operator.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from hyperhive.clock import Clock
from hyperhive.config import HiveConfig, parse_size
from hyperhive.errors import LimitReached
from hyperhive.names import OPERATOR, SYSTEM

REFUSAL_SECONDS: Final = 0.25
"""One sender is told of no more refusals than one in this time: to ask again at once is then no faster than to wait."""

ROUNDING: Final = 1e-6
"""What is missing by no more than this is not missing: rates are added up in floating point."""

UNCOUNTED: Final = frozenset({OPERATOR, SYSTEM})


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's own limits; where the hive has the same one, the smaller counts. None: no such limit."""

    send_to: tuple[str, ...] | None = None
    sends_per_minute: int | None = None
    bytes_per_hour: int | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker counts to. None: no such limit, which is the default of a bare broker.

    Attributes:
        dead_after: a message that failed so often by itself is given up.
        quota_of: an agent's own limits, asked at every send, so that a change of them counts at once.
        sends_per_minute: messages of one agent; after a pause as many at once.
        bytes_per_hour: bytes of bodies of one agent, likewise.
        inbox_cap: messages that may wait or be held in one inbox, whoever sends them (but the system).
        open_questions: unanswered questions of one asker.
        open_reminders: reminders of one owner that have not been delivered.
        reminder_gap_seconds: the least time between two reminders of one owner.
        hop_limit: a chain of messages is held beyond so many hops; releasing it grants as many again.
        pair_rate: so many messages of one chain may go between the same two agents within `pair_seconds`.
        pair_seconds: see there; at most a day.
        tool_ttl_seconds: a tool call that waits so long for the operator is denied.
    """

    dead_after: int = 5
    quota_of: Callable[[str], Quota] | None = None
    sends_per_minute: int | None = None
    bytes_per_hour: int | None = None
    inbox_cap: int | None = None
    open_questions: int | None = None
    open_reminders: int | None = None
    reminder_gap_seconds: int | None = None
    hop_limit: int | None = None
    pair_rate: int | None = None
    pair_seconds: int = 600
    tool_ttl_seconds: int = 86_400

    @classmethod
    def of(cls, config: Callable[[], HiveConfig]) -> "Limits":
        """As the operator has set them: agents' own ones as they are at each send, the hive's as they are now."""

        def quota_of(name: str) -> Quota:
            own = config().agent(name).limits
            size = None if own.bytes_per_hour is None else parse_size(own.bytes_per_hour)
            return Quota(send_to=own.send_to, sends_per_minute=own.sends_per_minute, bytes_per_hour=size)

        file = config().file
        return cls(
            dead_after=file.dead_after,
            quota_of=quota_of,
            sends_per_minute=file.sends_per_minute,
            bytes_per_hour=parse_size(file.bytes_per_hour),
            inbox_cap=file.inbox_cap,
            open_questions=file.open_questions,
            open_reminders=file.open_reminders,
            reminder_gap_seconds=file.reminder_gap_seconds,
            hop_limit=file.hop_limit,
            pair_rate=file.pair_rate,
            pair_seconds=file.pair_seconds,
            tool_ttl_seconds=file.tool_ttl_seconds,
        )


_NO_QUOTA: Final = Quota()


class Bucket:
    """Holds `size` at most and fills up in `seconds`; what is sent is taken out of it."""

    __slots__ = ("_at", "_left", "_size")

    def __init__(self, size: float, now: float) -> None:
        self._size = size
        self._left = size
        self._at = now

    def wait(self, amount: float, size: float, seconds: float, now: float) -> float:
        """How many seconds until `amount` can be taken; 0 for now. The limit may be another than the last time."""
        self._left = min(size, self._left + (now - self._at) * size / seconds)
        self._at = now
        # An amount beyond the whole bucket goes when it is full, and leaves a debt: else it could never go.
        short = min(amount, size) - self._left
        return short * seconds / size if short > ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Takes it, or gives it back where it is negative."""
        self._left -= amount


class Gate:
    """What is asked before a message, a question or a reminder is stored. On the loop's thread only.

    Every refusal is a `LimitReached` that names the limit and its value; its hint says when or by what it ends.
    """

    def __init__(self, limits: Limits, clock: Clock, waiting: Callable[[str], int]) -> None:
        """`waiting`: how many messages wait or are held in an inbox."""
        self.unlimited: Final = (
            limits.quota_of is None
            and limits.sends_per_minute is None
            and limits.bytes_per_hour is None
            and limits.inbox_cap is None
        )
        """Nothing here is ever refused."""
        self.counts_bytes: Final = limits.bytes_per_hour is not None or limits.quota_of is not None
        self._limits = limits
        self._clock = clock
        self._waiting = waiting
        self._sends: dict[str, Bucket] = {}
        self._bytes: dict[str, Bucket] = {}
        self._coming: Counter[str] = Counter()
        self._refusals: dict[str, float] = {}

    # --- before ---

    def check_recipient(self, sender: str, recipient: str) -> None:
        """The allow-list: of messages, and of questions to an agent.

        Raises:
            LimitReached: the sender may not write to this agent.
        """
        if self._limits.quota_of is None or sender in UNCOUNTED or recipient in UNCOUNTED:
            return
        allowed = self._limits.quota_of(sender).send_to
        if allowed is not None and recipient not in allowed:
            names = ", ".join(name for name in allowed if name != OPERATOR)
            raise LimitReached(
                f"{sender} may write to nobody but {names + ' and ' if names else ''}the operator (limit send_to)",
                hint=f"this ends when the operator adds {recipient} to send_to of {sender} in hive.toml and reloads it",
            )

    def check_send(self, sender: str, recipient: str, size: int) -> None:
        """Allow-list, the recipient's inbox, and the sender's rates; takes from the rates where all is well.

        Raises:
            LimitReached: one of these limits.
        """
        if sender == SYSTEM:
            return
        self.check_recipient(sender, recipient)
        self._check_inbox(recipient)
        self.take(sender, size)

    def check_ask(self, asker: str, target: str, size: int, open_now: int) -> None:
        """As for a message to the target, and the number of the asker's open questions.

        A question to the operator is no mail: it needs no room in the inbox.

        Raises:
            LimitReached: one of these limits.
        """
        cap = self._limits.open_questions
        if asker not in UNCOUNTED and cap is not None and open_now >= cap:
            raise LimitReached(
                f"{asker} has {open_now} open questions, the limit is {cap} (open_questions)",
                hint="this ends when one of them is answered, or cancelled by cancel_loose_end",
            )
        if target == OPERATOR:
            self.take(asker, size)
        else:
            self.check_send(asker, target, size)

    def take(self, sender: str, size: int) -> None:
        """The sender's rates alone; takes from them where all is well.

        Also for what becomes mail of the system's: reminders and answers.

        Raises:
            LimitReached: one of them.
        """
        if sender in UNCOUNTED:
            return
        limits = self._limits
        own = limits.quota_of(sender) if limits.quota_of is not None else _NO_QUOTA
        sends = _smaller(limits.sends_per_minute, own.sends_per_minute)
        volume = _smaller(limits.bytes_per_hour, own.bytes_per_hour)
        now = self._clock.monotonic()
        taken: list[tuple[Bucket, int]] = []
        for buckets, amount, limit, seconds, words in (
            (self._sends, 1, sends, 60.0, "messages a minute (sends_per_minute)"),
            (self._bytes, size, volume, 3600.0, "bytes of messages an hour (bytes_per_hour)"),
        ):
            if limit is None:
                continue
            bucket = buckets.get(sender)
            if bucket is None:
                bucket = buckets[sender] = Bucket(limit, now)
            wait = bucket.wait(amount, limit, seconds, now)
            if wait > 0:
                raise LimitReached(
                    f"{sender} has sent as much as it may: {limit} {words}",
                    hint=f"this ends in {math.ceil(wait)} seconds",
                )
            taken.append((bucket, amount))
        for bucket, amount in taken:
            bucket.take(amount)

    # --- around the storing ---

    def coming(self, recipient: str, count: int) -> None:
        """So many more (or fewer) messages are on their way to disk: they count as waiting."""
        if self._limits.inbox_cap is not None:
            self._coming[recipient] += count
            if not self._coming[recipient]:
                del self._coming[recipient]

    def give_back(self, sender: str, size: int) -> None:
        """Nothing new was stored: the rates have not been used after all."""
        for buckets, amount in ((self._sends, 1), (self._bytes, size)):
            if sender in buckets:
                buckets[sender].take(-amount)

    async def linger(self, sender: str) -> None:
        """Returns when a refused sender may be told so: at once, but no sooner than a while after the last time.

        For edges that serve many senders: those who go on without a pause then take no time from the others.
        """
        if sender in UNCOUNTED:
            return
        now = self._clock.monotonic()
        at = max(now, self._refusals.get(sender, 0.0))
        self._refusals[sender] = at + REFUSAL_SECONDS
        if at > now:
            await self._clock.sleep(at - now)

    # --- inside ---

    def _check_inbox(self, recipient: str) -> None:
        cap = self._limits.inbox_cap
        if cap is None:
            return
        count = self._waiting(recipient) + self._coming[recipient]
        if count < cap:
            return
        ends = "the operator puts mail away (`hyperhive inbox --done`)"
        raise LimitReached(
            f"the inbox of {recipient} is full: {count} messages wait there, the limit is {cap} (inbox_cap)",
            hint=f"this ends as {ends if recipient == OPERATOR else f'{recipient} works them off'}",
        )


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
