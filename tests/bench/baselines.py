"""What the broker is compared with: the same work done in other ways, each as well as it can be done simply.

One commit a message, a plain group commit between threads, the floor (one thread, 32 a commit), and two queues from
PyPI. All but litequeue (which fixes synchronous=NORMAL) promise what the broker promises.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
from anyio import to_thread

BODY = "x" * 100

_INSERT = "INSERT INTO messages (sender, recipient, body, sent_at) VALUES (?,?,?,?)"
_POP = (
    "UPDATE messages SET delivered_at = ?1 WHERE id IN (SELECT id FROM messages WHERE recipient = ?2"
    " AND acked_at IS NULL AND delivered_at IS NULL ORDER BY id LIMIT 32) RETURNING id, body"
)
_ACK = "UPDATE messages SET acked_at = ? WHERE id = ?"


BY_INBOX = "messages(recipient, id)"
BY_ID = "messages(id)"


def connect(path: Path, indexed: str = BY_INBOX) -> sqlite3.Connection:
    """The broker's durability, and as much of its table as is needed.

    `indexed`: what is not done, by what. Who pops by SQL needs it by inbox; the broker, which hands out from memory,
    has it by id, which costs a send less.
    """
    conn = sqlite3.connect(path / "plain.sqlite", isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=8000"):
        conn.execute(f"PRAGMA {pragma}").fetchall()
    conn.execute(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, sender TEXT NOT NULL, recipient TEXT NOT NULL,"
        " body TEXT NOT NULL, sent_at INTEGER NOT NULL, delivered_at INTEGER, acked_at INTEGER)"
    )
    conn.execute(f"CREATE INDEX unacked ON {indexed} WHERE acked_at IS NULL")
    return conn


def one_fsync_each(path: Path, count: int) -> int:
    """One thread, one commit a message, to 32 inboxes in turn."""
    conn = connect(path)
    for number in range(count):
        conn.execute(_INSERT, ("alice", f"r{number % 32}", BODY, int(time.time())))
    conn.close()
    return count


def floor(path: Path, count: int, indexed: str = BY_INBOX) -> int:
    """One thread, executemany, 32 messages to 32 inboxes a commit: what SQLite does with nothing around it."""
    conn = connect(path, indexed)
    for _ in range(count // 32):
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(_INSERT, [("alice", f"r{number}", BODY, int(time.time())) for number in range(32)])
        conn.execute("COMMIT")
    conn.close()
    return count // 32 * 32


class GroupCommit:
    """A writer thread that commits what has queued up; callers are threads that wait for an event."""

    def __init__(self, path: Path) -> None:
        self.conn = connect(path)
        self._jobs: SimpleQueue[tuple[Callable[[], Any], threading.Event, list[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def do(self, work: Callable[[], Any]) -> Any:
        """Runs `work` in the writer's transaction; returns its result after the commit."""
        done = threading.Event()
        result: list[Any] = []
        self._jobs.put((work, done, result))
        done.wait()
        return result[0]

    def send(self, recipient: str) -> None:
        row = ("alice", recipient, BODY, int(time.time()))
        self.do(lambda: self._write(_INSERT, [row]))

    def pop(self, recipient: str) -> list[int]:
        now = int(time.time())
        return [row[0] for row in self.do(lambda: self.conn.execute(_POP, (now, recipient)).fetchall())]

    def ack(self, ids: Sequence[int]) -> None:
        rows = [(int(time.time()), number) for number in ids]
        self.do(lambda: self._write(_ACK, rows))

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Gives no cursor out: another thread would finalise it while this one works."""
        self.conn.executemany(statement, rows)

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()
        self.conn.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch = [job]
            while not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    self._jobs.put(None)
                    break
                batch.append(more)
            self.conn.execute("BEGIN IMMEDIATE")
            for work, _, result in batch:
                result.append(work())
            self.conn.execute("COMMIT")
            for _, done, _ in batch:
                done.set()


def in_threads(work: Sequence[Callable[[], None]]) -> None:
    """Each in a thread of its own; returns when all are done."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def group_commit_sends(path: Path, senders: int, each: int) -> int:
    """Threads that send, each one message after the other."""
    store = GroupCommit(path)

    def sender(name: str) -> Callable[[], None]:
        def run() -> None:
            for _ in range(each):
                store.send(name)

        return run

    in_threads([sender(f"r{number}") for number in range(senders)])
    store.close()
    return senders * each


class Inboxes:
    """How a sender's thread wakes the reader of an inbox."""

    def __init__(self) -> None:
        self._waiting: dict[str, threading.Semaphore] = {}

    def of(self, name: str) -> threading.Semaphore:
        return self._waiting.setdefault(name, threading.Semaphore(0))


def group_commit_cycles(path: Path, inboxes: int, each: int) -> int:
    """For each inbox a thread that sends and one that takes up to 32 and acks them."""
    store = GroupCommit(path)
    bells = Inboxes()

    def sender(name: str) -> Callable[[], None]:
        bell = bells.of(name)

        def run() -> None:
            for _ in range(each):
                store.send(name)
                bell.release()

        return run

    def reader(name: str) -> Callable[[], None]:
        bell = bells.of(name)

        def run() -> None:
            got = 0
            while got < each:
                bell.acquire()
                ids = store.pop(name)
                for _ in ids[1:]:  # one ring a message
                    bell.acquire()
                store.ack(ids)
                got += len(ids)

        return run

    names = [f"r{number}" for number in range(inboxes)]
    in_threads([one(name) for name in names for one in (sender, reader)])
    store.close()
    return inboxes * each


def one_fsync_each_cycles(path: Path, count: int) -> int:
    """A thread that sends and one that takes up to 32 and acks them, every step a commit of its own."""
    conn = connect(path)
    lock = threading.Lock()
    bell = threading.Semaphore(0)

    def sender() -> None:
        for _ in range(count):
            with lock:
                conn.execute(_INSERT, ("alice", "bob", BODY, int(time.time())))
            bell.release()

    def reader() -> None:
        got = 0
        while got < count:
            bell.acquire()
            with lock:
                ids = [row[0] for row in conn.execute(_POP, (int(time.time()), "bob")).fetchall()]
            for _ in ids[1:]:  # one ring a message
                bell.acquire()
            with lock:
                conn.execute("BEGIN IMMEDIATE")
                conn.executemany(_ACK, [(int(time.time()), number) for number in ids])
                conn.execute("COMMIT")
            got += len(ids)

    in_threads([sender, reader])
    conn.close()
    return count


def group_commit_wakes(path: Path, count: int) -> list[float]:
    """Seconds from the call of a send to its message in the hands of a waiting reader, one at a time."""
    store = GroupCommit(path)
    bell, taken = threading.Semaphore(0), threading.Semaphore(0)
    took: list[float] = []
    begun = 0.0

    def reader() -> None:
        for _ in range(count):
            bell.acquire()
            ids = store.pop("bob")
            took.append(time.perf_counter() - begun)
            store.ack(ids)
            taken.release()

    thread = threading.Thread(target=reader)
    thread.start()
    for _ in range(count):
        begun = time.perf_counter()
        store.send("bob")
        bell.release()
        taken.acquire()
    thread.join()
    store.close()
    return took


def litequeue_cycles(path: Path, inboxes: int, each: int) -> int:
    """The same program as ours, tasks that send and tasks that read, with litequeue in the broker's place.

    A file an inbox, as its documentation asks for. It blocks, so each call is a hop to a worker thread; it has no way
    to wait for a message, so readers look every 10 ms.
    """
    import litequeue

    async def send(name: str) -> None:
        queue = litequeue.LiteQueue(str(path / name), timeout=30)
        for _ in range(each):
            await to_thread.run_sync(queue.put, BODY)
        queue.conn.close()

    async def read(name: str) -> None:
        queue = litequeue.LiteQueue(str(path / name), timeout=30)
        got = 0
        while got < each:
            batch: list[Any] = []
            while len(batch) < 32 and (message := await to_thread.run_sync(queue.pop)) is not None:
                batch.append(message)
            for message in batch:
                await to_thread.run_sync(queue.done, message.message_id)
            got += len(batch)
            if not batch:
                await anyio.sleep(0.01)
        queue.conn.close()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(inboxes):
                group.start_soon(send, f"r{number}")
                group.start_soon(read, f"r{number}")

    anyio.run(main)
    return inboxes * each


def litequeue_sends(path: Path, count: int) -> int:
    """One thread, one queue."""
    import litequeue

    queue = litequeue.LiteQueue(str(path / "queue.sqlite"))
    for _ in range(count):
        queue.put(BODY)
    queue.conn.close()
    return count


def persistqueue_sends(path: Path, count: int) -> int:
    """One thread, one queue."""
    import persistqueue

    queue = persistqueue.SQLiteAckQueue(str(path), auto_commit=True)
    for _ in range(count):
        queue.put(BODY)
    queue.close()
    return count


def persistqueue_cycles(path: Path, inboxes: int, each: int) -> int:
    """One thread; a directory an inbox; put, get and ack, 32 at a time."""
    import persistqueue

    queues = [
        persistqueue.SQLiteAckQueue(str(path / str(number)), auto_commit=True) for number in range(inboxes)
    ]
    for _ in range(each // 32):
        for queue in queues:
            for _ in range(32):
                queue.put(BODY)
            for item in [queue.get(raw=True) for _ in range(32)]:
                queue.ack(item)
    for queue in queues:
        queue.close()
    return inboxes * (each // 32 * 32)
