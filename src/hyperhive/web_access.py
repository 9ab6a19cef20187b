"""Who may use the operator's pages: login links that work once, and the sessions that they begin.

A link's token is known to nobody but who was given the link, for ten minutes; a session is two secrets, one in a
cookie, one that the page keeps: cookies ignore ports, so a cookie alone proves nothing. Of all three only SHA-256
digests are kept. Whoever holds a session is the operator; what reads the cookie and sets it is the web server's affair.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import BadRequest, Forbidden, LimitReached, NotAvailable, NotFound
from hyperhive.protocol.replies import LoginUrl, WebSession
from hyperhive.store import Database, Migrations, Operation, Store

MIGRATIONS: Final = Migrations("web")

LINK_SECONDS: Final = 600
SESSION_SECONDS: Final = 30 * 86_400
WATCH_SECONDS: Final = 15.0
LINKS_MAX: Final = 32
"""Links that may wait at once; a newer one takes the place of the oldest."""
WRONG_TOKENS_PER_MINUTE: Final = 20
BROWSER_MAX: Final = 200


@MIGRATIONS()
def m0001_sessions(db: Database) -> None:
    """One row a session; digests only."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS web_sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, cookie BLOB NOT NULL UNIQUE,"
        " secret BLOB NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, browser TEXT NOT NULL)"
    )


class Session(msgspec.Struct, frozen=True):
    """One session as it is kept."""

    id: int
    cookie: bytes
    secret: bytes
    created_at: int
    expires_at: int
    browser: str


class Admitted(msgspec.Struct, frozen=True):
    """A session that has just begun: the only time that its two secrets are told."""

    id: int
    cookie: str
    secret: str
    expires_at: int


class WebAccess:
    """The links and sessions of one hive. `start` once, before anybody is let in."""

    def __init__(self, store: Store, clock: Clock, mark: str) -> None:
        self.mark = mark
        """Tells this hive's cookie from another's on the same machine."""
        self.address: str | None = None
        """Where the pages are, as `http://HOST:PORT`; None while they are not served."""
        self.cautions: tuple[str, ...] = ()
        """What the operator should know of the way that browsers come."""
        self.ended: list[Callable[[int], None]] = []
        """Called with the id of each session that ends."""
        self._store = store
        self.clock = clock
        self._links: dict[bytes, int] = {}
        self._sessions: dict[bytes, Session] = {}
        self._used: dict[int, int] = {}
        self._not_deleted: set[int] = set()
        """Those that are over, and that the disk still has."""
        self._wrong: list[float] = []
        self._add: Operation[Session, int] = Operation("begin web session", _add)
        self._end: Operation[int, None] = Operation("end web session", _end)

    async def start(self) -> None:
        """The sessions are as they were when the hive ended last."""
        for session in await self._store.read(_every):
            if session.expires_at > self.clock.time():
                self._sessions[session.cookie] = session

    @property
    def port(self) -> int | None:
        """The port of the pages; None while they are not served."""
        return None if self.address is None else urlsplit(self.address).port

    # --- links ------------------------------------------------------------------------------------------------------

    def link(self, to: str | None = None) -> LoginUrl:
        """A link that logs one browser in, once, within ten minutes, and then shows the page `to` (a path).

        Raises:
            NotAvailable: this hive serves no pages. BadRequest: `to` is no path.
        """
        if self.address is None:
            raise NotAvailable(
                "this hive serves no pages", hint="`hyperhive up` and `hyperhive serve` do, and say where"
            )
        if to is not None and (not to.startswith("/") or to.startswith("//") or "\\" in to):
            raise BadRequest(f"{to[:80]!r} is no page of the hive", hint="a path, as /approvals/3")
        token = secrets.token_urlsafe(32)
        while len(self._links) >= LINKS_MAX:
            del self._links[next(iter(self._links))]
        expires = unix_seconds(self.clock) + LINK_SECONDS
        self._links[_digest(token)] = expires
        query = "" if to in {None, "/"} else f"?to={quote(to or '', safe='/')}"
        return LoginUrl(url=f"{self.address}/login{query}#{token}", expires_at=expires)

    async def log_in(self, token: str, browser: str) -> Admitted:
        """Begins a session with a link's token, which is spent by it. Durable on return.

        Raises:
            Forbidden: no link has this token now (code `not_logged_in`).
            LimitReached: likewise, and there were many such; the right token is taken all the same.
        """
        expires = self._links.pop(_digest(token), None)
        now = self.clock.time()
        if expires is None or expires <= now:
            self._refuse()
        cookie, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        row = Session(
            id=0,
            cookie=_digest(cookie),
            secret=_digest(secret),
            created_at=int(now),
            expires_at=int(now) + SESSION_SECONDS,
            browser=browser[:BROWSER_MAX],
        )
        number = await self._store.submit(self._add, row)
        self._sessions[row.cookie] = msgspec.structs.replace(row, id=number)
        return Admitted(id=number, cookie=cookie, secret=secret, expires_at=row.expires_at)

    def _refuse(self) -> None:
        now = self.clock.monotonic()
        self._wrong = [at for at in self._wrong if at > now - 60.0][-WRONG_TOKENS_PER_MINUTE:]
        self._wrong.append(now)
        if len(self._wrong) > WRONG_TOKENS_PER_MINUTE:
            raise LimitReached("too many wrong login links", hint="wait a minute, and use a new link")
        raise Forbidden(
            "this login link is not valid, or was used already, or is older than ten minutes",
            hint="`hyperhive open` makes a new one",
            code="not_logged_in",
        )

    # --- sessions ---------------------------------------------------------------------------------------------------

    def check(self, cookie: str, secret: str) -> int | None:
        """The session that these two belong to; None where they are not both right or it is over."""
        session = self._sessions.get(_digest(cookie))
        if session is None or not hmac.compare_digest(session.secret, _digest(secret)):
            return None
        now = self.clock.time()
        if session.expires_at <= now:
            self._forget(session)
            return None
        self._used[session.id] = int(now)
        return session.id

    def sessions(self) -> list[WebSession]:
        """Those that are not over, newest first."""
        return [
            WebSession(
                id=each.id,
                created_at=each.created_at,
                expires_at=each.expires_at,
                browser=each.browser,
                last_used_at=self._used.get(each.id),
            )
            for each in sorted(self._sessions.values(), key=lambda one: -one.id)
            if each.expires_at > self.clock.time()
        ]

    async def watch(self) -> None:
        """Ends sessions as their time comes, for ever: a stream that is open asks nothing more."""
        while True:
            await self.clock.sleep(WATCH_SECONDS)
            self.expire()

    def expire(self) -> None:
        """Ends those whose time is over; their streams are closed."""
        now = self.clock.time()
        for session in [each for each in self._sessions.values() if each.expires_at <= now]:
            self._forget(session)

    async def end(self, number: int) -> None:
        """Ends a session, durably; its streams are closed.

        Raises:
            NotFound: there is none of this id.
            StoreFailed: it is over, but would be there again after a restart; say it again.
        """
        found = next((each for each in self._sessions.values() if each.id == number), None)
        if found is None and number not in self._not_deleted:
            raise NotFound(f"there is no session {number}", hint="`/sessions` shows who there is")
        if found is not None:
            self._forget(found)
        self._not_deleted.add(number)
        await self._store.submit(self._end, number)
        self._not_deleted.discard(number)

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.cookie, None)
        self._used.pop(session.id, None)
        for tell in self.ended:
            tell(session.id)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _add(conn: sqlite3.Connection, batch: Sequence[Session]) -> list[int]:
    ids = []
    for one in batch:
        conn.execute("DELETE FROM web_sessions WHERE expires_at <= ?", (one.created_at,))
        row = (one.cookie, one.secret, one.created_at, one.expires_at, one.browser)
        cursor = conn.execute(
            "INSERT INTO web_sessions (cookie, secret, created_at, expires_at, browser) VALUES (?,?,?,?,?)",
            row,
        )
        ids.append(int(cursor.lastrowid or 0))
    return ids


def _end(conn: sqlite3.Connection, batch: Sequence[int]) -> list[None]:
    conn.executemany("DELETE FROM web_sessions WHERE id = ?", [(number,) for number in batch])
    return [None] * len(batch)


def _every(conn: sqlite3.Connection) -> list[Session]:
    query = "SELECT id, cookie, secret, created_at, expires_at, browser FROM web_sessions"
    return [Session(*row) for row in conn.execute(query)]
