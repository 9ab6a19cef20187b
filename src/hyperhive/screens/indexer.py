"""`Indexer`: keeps the index of texts up with the hive's database and its agents' event logs, in the background.

Small batches with pauses between, each one transaction with the note of how far it goes: whatever kills it, the next
start goes on there. It reads what is committed, on readers' connections, and writes a file of its own: no sender waits
for it, and no start. An index that cannot be used, or is of another database, is thrown away and made again.
"""

# ruff: noqa: S608, ISC004 - statements of our own words

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread

from hyperhive.bus import Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import StoreFailed
from hyperhive.eventlog import KEPT_DAYS
from hyperhive.protocol.events import AnyDashboardEvent, ApprovalChanged, QuestionAdded, Sent
from hyperhive.screens import index
from hyperhive.screens.index import DECISION, DECISION_TEXT, MESSAGE, QUESTION, Doc
from hyperhive.store.connections import Readers

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_ROWS: Final = 200
BATCH_CHARS: Final = 1 << 20
SETTLE_SECONDS: Final = 0.2
"""So long more may gather after the first of a burst."""
SHARE: Final = 3.0
"""It rests so many times as long as it works: a hive that is flooded sends on."""
EVENTS_SECONDS: Final = 5.0
"""So often the agents' logs are looked at."""
SWEEP_ROWS: Final = 5000
GONE_MIN: Final = 10_000
TROUBLE_SECONDS: Final = 60.0


class Database(Protocol):
    """What is needed of the broker: looks at the hive's database in a reader's thread."""

    async def read(self, look: Callable[[sqlite3.Connection], T]) -> T: ...


class OldMail(Protocol):
    """Looks for messages that are to go. In a thread."""

    def __call__(self, conn: sqlite3.Connection, /, *, after: int) -> Sequence[tuple[int, bytes]]: ...


class EventSource(Protocol):
    """Where agents' events are read, as texts. In a thread."""

    def __call__(self, marks: dict[str, int], rows: int) -> tuple[Sequence[Doc], dict[str, int]]:
        """Texts after these marks, at most about so many, and the marks then."""
        ...

    def lost(self, marks: dict[str, int]) -> bool:
        """Whether a log that was read is not there any more, or another one is in its place: its agent was purged."""
        ...


class Indexer:
    """The index of one hive. Run `run` once, in the background; `look` reads it.

    Args:
        events: None: no events are taken in.
    """

    def __init__(
        self,
        *,
        database: Database,
        path: Path,
        bus: Bus[AnyDashboardEvent],
        clock: Clock,
        events: EventSource | None = None,
    ) -> None:
        self._database = database
        self._path = path
        self._clock = clock
        self._events = events
        self._readers: Readers | None = None
        self._conn: sqlite3.Connection | None = None
        self._thread = anyio.CapacityLimiter(1)
        self._marks: dict[str, int] = {}
        self._wake = anyio.Event()
        self._turn = anyio.Lock()
        """Of whoever changes the index: what is taken out must not be just being taken in."""
        self.behind = True
        """Older texts than the newest may be missing."""
        bus.tap(self._hear)

    @property
    def through(self) -> int:
        """Every message up to this id is in the index, if it still is in the hive."""
        return self._marks.get("messages", 0)

    def look_now(self) -> None:
        """Something is to be taken in, agents' events perhaps: it does not wait for the next time."""
        self._wake.set()

    def look(self, query: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Reads the index, in the calling thread; gives `otherwise` where there is none (yet)."""
        readers = self._readers
        if readers is None:
            return otherwise
        try:
            return readers.run(query)
        except StoreFailed as error:
            log.warning("index_not_read error=%s", error)
            return otherwise

    # --- keeping up -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps up, for ever."""
        try:
            while True:
                try:
                    await self._keep_up()
                except (sqlite3.Error, OSError) as error:
                    log.warning("index_thrown_away error=%s", error)
                    await self._off_loop(self._throw_away)
                    await self._clock.sleep(TROUBLE_SECONDS)
                except StoreFailed as error:
                    log.warning("index_not_fed error=%s", error)
                    await self._clock.sleep(TROUBLE_SECONDS)
        finally:
            await self.aclose()

    async def open(self) -> None:
        """Opens the index, or makes it; `run` does."""
        await self._off_loop(self._open)

    async def aclose(self) -> None:
        """Closes it; `run` does."""
        with anyio.CancelScope(shield=True):
            await self._off_loop(self._close)

    async def _keep_up(self) -> None:
        await self.open()
        if not await self._database.read(self._is_of):
            log.warning("index_of_another_database path=%s", self._path)
            await self._make_anew()
        while True:
            self._wake = anyio.Event()
            began = self._clock.monotonic()
            if await self.step():
                await self._clock.sleep(SHARE * (self._clock.monotonic() - began))
                continue
            if await self._drop_purged():
                continue
            self.behind = False
            with anyio.move_on_after(EVENTS_SECONDS if self._events is not None else None):
                await self._wake.wait()
                await self._clock.sleep(SETTLE_SECONDS)

    async def step(self) -> bool:
        """Takes one batch in; False where there was nothing."""
        async with self._turn:
            return await self._step()

    async def _step(self) -> bool:
        docs, read = await self._database.read(self._next)
        if self._events is not None and len(docs) < BATCH_ROWS:
            events = self._events
            more, marks = await self._off_loop(lambda: events(dict(self._marks), BATCH_ROWS))
            docs, read = [*docs, *more], {**read, **marks}
        if not read:
            return False
        await self._off_loop(lambda: self._write(docs, read))
        self._marks |= read
        return bool(docs)

    async def _drop_purged(self) -> bool:
        """Where an agent was purged, not even its words stay: all is made anew. Whether it was."""
        events = self._events
        if events is None or not await self._off_loop(lambda: events.lost(dict(self._marks))):
            return False
        log.info("index_made_anew after=purge")
        async with self._turn:
            await self._make_anew()
        return True

    async def _make_anew(self) -> None:
        await self._off_loop(self._throw_away)
        await self.open()

    async def forget(self, old: OldMail) -> None:
        """Takes out what the hive is about to remove, words and all; to be called before it does. Never raises.

        Args:
            old: messages after an id, in order, each an id and its text; some of them, and none only where no more are.
        """

        async def work() -> None:
            after = 0
            while found := await self._database.read(partial(old, after=after)):
                after = found[-1][0]
                mail = [(number, as_text(text)) for number, text in found]
                await self._off_loop(partial(self._take_out, mail))

        await self._tidy(work)

    async def sweep(self) -> None:
        """Forgets what the hive and its agents' logs have forgotten; where most of it is such, it is made anew.

        To be called once the hive has swept. Never raises: what is left out now is for the next time.
        """
        await self._tidy(self._sweep)

    async def _tidy(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._turn:
                await work()
        except (sqlite3.Error, OSError, StoreFailed) as error:
            log.warning("index_not_swept error=%s", error)

    async def _sweep(self) -> None:
        await self._off_loop(partial(self._forget_events, unix_seconds(self._clock) - KEPT_DAYS * 86_400))
        after = 0
        while known := await self._off_loop(
            partial(self.look, partial(index.mail_after, after=after, limit=SWEEP_ROWS), list[int]())
        ):
            after = known[-1]
            there = await self._database.read(partial(_still_there, ids=known))
            lost = [number for number in known if number not in there]
            if lost:
                await self._off_loop(partial(self._forget, lost))
        gone, all_ = await self._off_loop(partial(self.look, index.gone, (0, 0)))
        if gone > GONE_MIN and gone * 2 > all_:
            log.info("index_made_anew gone=%s", gone)
            await self._make_anew()

    # --- in a reader's thread of the hive's database ----------------------------------------------------------------

    def _is_of(self, conn: sqlite3.Connection) -> bool:
        """The index was made of this database, and not of one that it was before a backup was put back."""
        (newest,) = conn.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        if self.through > newest:
            return False
        mine = self.look(_newest_mail, None)
        if mine is None:
            return True
        number, sender, recipient, at = mine
        row = conn.execute(
            "SELECT sender, recipient, sent_at FROM messages WHERE id = ?", (number,)
        ).fetchone()
        return row is None or (row[0], row[1], min(max(0, row[2]), index.LAST)) == (sender, recipient, at)

    def _next(self, conn: sqlite3.Connection) -> tuple[list[Doc], dict[str, int]]:
        docs: list[Doc] = []
        read: dict[str, int] = {}
        for source, (kind, query) in _SOURCES.items():
            if len(docs) >= BATCH_ROWS or not _has(conn, source):
                break
            chars = 0
            for row in conn.execute(query, (self._marks.get(source, 0), BATCH_ROWS - len(docs))):
                docs.append(_doc(kind, row))
                read[source] = row[0]
                chars += len(docs[-1].text)
                if chars >= BATCH_CHARS:
                    break
        return docs, read

    # --- in the index's own thread ----------------------------------------------------------------------------------

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._thread)

    def _open(self) -> None:
        if self._conn is None:
            self._conn = index.connect(self._path)
            self._marks = index.marks(self._conn)
            self._readers = Readers(self._path)

    def _write(self, docs: Sequence[Doc], read: dict[str, int]) -> None:
        if self._conn is not None:
            index.add(self._conn, docs, read)

    def _take_out(self, mail: Sequence[tuple[int, str]]) -> None:
        if self._conn is not None:
            index.take_out(self._conn, mail)

    def _forget(self, ids: Sequence[int]) -> None:
        if self._conn is not None:
            index.forget_mail(self._conn, ids)

    def _forget_events(self, before: int) -> None:
        if self._conn is not None:
            index.forget_events(self._conn, before)

    def _throw_away(self) -> None:
        self._close()
        self._marks = {}
        self.behind = True
        index.throw_away(self._path)

    def _close(self) -> None:
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.close()
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def _hear(self, event: AnyDashboardEvent) -> None:
        if isinstance(event, Sent | QuestionAdded | ApprovalChanged):
            self._wake.set()


# --- what there is to read ------------------------------------------------------------------------------------------

# As bytes: a text that a damaged row holds must not keep the others out.
_SOURCES: Final[dict[str, tuple[int, str]]] = {
    "messages": (
        MESSAGE,
        "SELECT id, sender, recipient, sent_at, CAST(body AS BLOB) FROM messages WHERE id > ? ORDER BY id LIMIT ?",
    ),
    "questions": (
        QUESTION,
        "SELECT id, CAST(asker AS BLOB), CAST(target AS BLOB), asked_at, CAST(question AS BLOB) FROM questions"
        " WHERE id > ? ORDER BY id LIMIT ?",
    ),
    "audit": (
        DECISION,
        f"SELECT id, agent, who, at, {DECISION_TEXT} FROM audit WHERE id > ? ORDER BY id LIMIT ?",
    ),
}


def _doc(kind: int, row: tuple[object, ...]) -> Doc:
    number, sender, recipient, at, text = row
    return Doc(
        kind=kind,
        ref=int(str(number)),
        at=at if isinstance(at, int) else 0,
        sender=as_text(sender),
        recipient=as_text(recipient),
        text=as_text(text),
    )


def as_text(value: object) -> str:
    """A column's value as text, whatever somebody wrote into it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)


def _still_there(conn: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    query = "SELECT id FROM messages WHERE id BETWEEN ? AND ?"
    return {row[0] for row in conn.execute(query, (ids[0], ids[-1]))}


def _has(conn: sqlite3.Connection, table: str) -> bool:
    """A broker that is used alone has no approvals."""
    return conn.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def _newest_mail(conn: sqlite3.Connection) -> tuple[int, str, str, int] | None:
    row = conn.execute(
        f"SELECT ref, sender, recipient, doc >> {index.BITS} FROM docs WHERE kind = {MESSAGE}"
        " ORDER BY ref DESC LIMIT 1"
    ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]), str(row[2]), int(row[3]))
