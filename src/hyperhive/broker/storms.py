"""Reply storms: chains of messages between agents that go on too long or too fast are held, and the operator is asked.

Runs in the transaction of each message that follows from another (`Storms.judge`): beyond the hop limit, or the rate of
one pair of agents, this and every further message of the chain is stored as held, and `system` asks the operator once.
The answer does what it says (`StormErrand`). All counts are rows, so they survive a restart. Mail to or from the
operator or the system is never held.
"""

import sqlite3
from collections.abc import Callable
from typing import Final, Literal, cast

import msgspec

from hyperhive.broker import rows
from hyperhive.broker.desk import Desk
from hyperhive.broker.inbox import Entry
from hyperhive.broker.limits import UNCOUNTED, Limits
from hyperhive.broker.questions_sql import QuestionRow, raise_in
from hyperhive.broker.rows import ENTRY, Mail, NewMessage
from hyperhive.errors import LimitReached

STORM: Final = "storm"
"""The kind of these questions; what they are about is the chain's number."""
RELEASE: Final = "release"
DROP: Final = "drop"
DROPPED: Final = "the operator ended its chain of messages as a reply storm"

QUOTE: Final = 200
PAIRS_KEPT_SECONDS: Final = 86_400
CHAINS_KEPT_SECONDS: Final = 90 * 86_400

State = Literal["open", "held", "ended"]


class Verdict(msgspec.Struct, frozen=True):
    """Whether a message is held, and the question that was raised about it just now."""

    held: bool
    asked: QuestionRow | None = None


FREE: Final = Verdict(held=False)


class Storms:
    """The breaker. `judge` runs on the writer's thread; it keeps nothing but its limits."""

    def __init__(self, limits: Limits) -> None:
        self._hop_limit = limits.hop_limit
        self._pair_rate = limits.pair_rate
        self._pair_seconds = limits.pair_seconds

    def judge(
        self, conn: sqlite3.Connection, new: NewMessage, steady: int, *, question: bool = False
    ) -> Verdict:
        """What is to become of a message that is about to be stored. Counts it.

        Args:
            new: its cause, hops and chain are set where it follows from another message.
            steady: seconds on a clock that does not jump while the process lives.
            question: it is the mail of a question, which will not be asked where it would have to be held.

        Raises:
            LimitReached: the operator has ended its chain. Nothing was changed.
        """
        if not new.chain or new.sender in UNCOUNTED or new.recipient in UNCOUNTED:
            return FREE
        if self._hop_limit is None and self._pair_rate is None:
            return FREE
        state, granted = _chain(conn, new.chain)
        if state == "ended":
            raise LimitReached(
                f"the operator has ended the chain of messages that message {new.chain} began",
                hint="this ends with a message that is not of that chain; the operator can still be written to",
            )
        why = "held" if state == "held" else self._excess(conn, new, granted, steady)
        if why is None:
            return FREE
        if state != "held":
            conn.execute(_PUT_CHAIN, (new.chain, "held", granted, new.at))
        asked, is_new = raise_in(
            conn,
            question=self._ask(conn, new, why, granted, question=question),
            options=(RELEASE, DROP),
            kind=STORM,
            about=str(new.chain),
            at=new.at,
        )
        return Verdict(held=True, asked=asked if is_new else None)

    def _excess(self, conn: sqlite3.Connection, new: NewMessage, granted: int, steady: int) -> str | None:
        if self._hop_limit is not None and new.hops > self._hop_limit + granted:
            return f"has come to {new.hops} hops, the limit being {self._hop_limit + granted} (hop_limit)"
        if self._pair_rate is None:
            return None
        low, high = sorted((new.sender, new.recipient))
        # What lies ahead was counted before the clock was put back between two starts.
        conn.execute(_FORGET_PAIR, (new.chain, low, high, steady - self._pair_seconds, steady))
        (count,) = conn.execute(_COUNT_PAIR, (new.chain, low, high)).fetchone()
        if count >= self._pair_rate:
            rate = f"{self._pair_rate} in {self._pair_seconds} seconds (pair_rate)"
            return f"has had {count} messages between {low} and {high} lately, the limit being {rate}"
        conn.execute(
            "INSERT INTO pair_sends (chain, low, high, at) VALUES (?,?,?,?)", (new.chain, low, high, steady)
        )
        return None

    def _ask(
        self, conn: sqlite3.Connection, new: NewMessage, why: str, granted: int, *, question: bool
    ) -> str:
        root = conn.execute(
            "SELECT sender, recipient, body FROM messages WHERE id = ?", (new.chain,)
        ).fetchone()
        began = f"message {new.chain}"
        if root is not None:
            quote = root[2] if len(root[2]) <= QUOTE else f"{root[2][:QUOTE]}…"
            began += f" from {root[0]} to {root[1]} ({quote!r})"
        between = f"of {new.sender} to {new.recipient}"
        became = (
            f"The question {between} is refused, and every further message of this chain is held"
            if question
            else f"The message {between} is held, and so is every further one of this chain"
        )
        return (
            f"A reply storm? The chain of messages that began with {began} {why}. {became}, at "
            f"{new.hops} hops now.\n"
            f"{RELEASE}: what is held is handed out, and the chain may go on{self._again(granted)}.\n"
            f"{DROP}: what is held becomes dead letters, its senders are told, and the chain is at its end."
        )

    def _again(self, granted: int) -> str:
        """How far the chain may go when it is released: both limits hold on, the rate counted anew."""
        bounds = ""
        if self._hop_limit is not None:
            bounds += f", up to {2 * self._hop_limit + granted} hops"
        if self._pair_rate is not None:
            bounds += (
                f", at most {self._pair_rate} messages between two agents in {self._pair_seconds} seconds"
            )
        return bounds


# --- the answer -------------------------------------------------------------------------------------------------------


class Settled(msgspec.Struct, frozen=True):
    """What an answer did to the held messages of a chain: released entries or dead letters, and mail about these."""

    released: list[tuple[str, Entry]] = []
    dead: list[tuple[str, int]] = []
    mail: list[Mail] = []


class StormErrand:
    """Carries out the operator's word about a chain."""

    def __init__(self, desk: Desk, limits: Limits, no_longer_held: Callable[[str, int], None]) -> None:
        """`no_longer_held`: told an inbox and how many of its held messages were released or given up."""
        self._desk = desk
        self._grant = limits.hop_limit or 0
        self._no_longer_held = no_longer_held

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> Settled:
        """On the writer's thread, in the answer's transaction."""
        chain = int(question.about)
        _, granted = _chain(conn, chain)
        conn.execute("DELETE FROM pair_sends WHERE chain = ?", (chain,))
        if answer == RELEASE:
            conn.execute(_PUT_CHAIN, (chain, "open", granted + self._grant, at))
            return Settled(released=_unhold(conn, chain))
        conn.execute(_PUT_CHAIN, (chain, "ended", granted, at))
        inboxes: dict[str, list[int]] = {}
        for recipient, entry in _unhold(conn, chain):
            inboxes.setdefault(recipient, []).append(entry.id)
        result = Settled([], [], [])
        for recipient, ids in inboxes.items():
            dead, mail = rows.bury(conn, recipient, ids, DROPPED, at)
            result.dead.extend((recipient, number) for number in dead)
            result.mail.extend(mail)
        return result

    def carried_out(self, question: QuestionRow, result: object) -> None:
        """On the loop's thread, after the commit."""
        del question
        settled = cast("Settled", result)
        for recipient, entry in settled.released:
            self._no_longer_held(recipient, 1)
            self._desk.say_state(entry.id, "pending")
            self._desk.put_back(self._desk.inbox(recipient), [entry])
        for recipient, number in settled.dead:
            self._no_longer_held(recipient, 1)
            self._desk.say_state(number, "dead", note=DROPPED)
        self._desk.mailed(settled.mail)


def prune(conn: sqlite3.Connection, now: int) -> None:
    """Forgets what no longer counts. A chain that nobody has decided about stays."""
    conn.execute("DELETE FROM pair_sends WHERE at < ?", (now - PAIRS_KEPT_SECONDS,))
    conn.execute("DELETE FROM chains WHERE state <> 'held' AND at < ?", (now - CHAINS_KEPT_SECONDS,))


def held_counts(conn: sqlite3.Connection) -> dict[str, int]:
    """How many messages are held in each inbox."""
    return dict(
        conn.execute("SELECT recipient, count(*) FROM messages WHERE parked = 'held' GROUP BY recipient")
    )


def _chain(conn: sqlite3.Connection, chain: int) -> tuple[State, int]:
    """Its state, and how many hops the operator has granted it beyond the limit."""
    row = conn.execute("SELECT state, granted FROM chains WHERE chain = ?", (chain,)).fetchone()
    return (row[0], row[1]) if row is not None else ("open", 0)


def _unhold(conn: sqlite3.Connection, chain: int) -> list[tuple[str, Entry]]:
    found = conn.execute(_UNHOLD, (chain,)).fetchall()
    return sorted(((row[0], Entry(*row[1:])) for row in found), key=lambda one: one[1].id)


_PUT_CHAIN: Final = "INSERT OR REPLACE INTO chains (chain, state, granted, at) VALUES (?,?,?,?)"
_FORGET_PAIR: Final = (
    "DELETE FROM pair_sends WHERE chain = ? AND low = ? AND high = ? AND NOT (at > ? AND at <= ?)"
)
_COUNT_PAIR: Final = "SELECT count(*) FROM pair_sends WHERE chain = ? AND low = ? AND high = ?"
_RELEASE: Final = "UPDATE messages SET parked = NULL, parked_at = NULL, reason = NULL"
_UNHOLD: Final = f"{_RELEASE} WHERE parked = 'held' AND chain = ? RETURNING recipient, {ENTRY}"
