"""The store: one owner, durable commits shared by all who wait, and a bad job that fails alone."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from hyperhive.errors import Closed, Conflict, HiveError, StoreFailed, StoreLocked
from hyperhive.store import Database, Migrations, Operation, Store

NOTES = Migrations("notes")


@NOTES()
def m0001_notes(db: Database) -> None:
    db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE)")


def _insert(conn: sqlite3.Connection, batch: Sequence[str]) -> list[int]:
    ids = []
    for text in batch:
        if text == "bug":
            raise RuntimeError(text)
        ids.append(conn.execute("INSERT INTO notes (text) VALUES (?) RETURNING id", (text,)).fetchone()[0])
    return ids


INSERT: Operation[str, int] = Operation("insert", _insert)


def texts(conn: sqlite3.Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT text FROM notes ORDER BY id")]


async def test_what_was_answered_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    async with Store.open(path, migrations=[NOTES]) as store:
        assert await store.submit(INSERT, "one") == 1
        with sqlite3.connect(path) as conn:
            assert texts(conn) == ["one"]
        conn.close()


async def test_the_connection_is_wal_with_synchronous_full(tmp_path: Path) -> None:
    def pragmas(conn: sqlite3.Connection, batch: Sequence[None]) -> list[tuple[str, int, int]]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        one, two, three = (conn.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return [(one, two, three) for _ in batch]

    async with Store.open(tmp_path / "notes.sqlite") as store:
        assert await store.submit(Operation("pragmas", pragmas), None) == ("wal", 2, 1)


async def test_all_who_are_runnable_share_one_commit(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        before = store.statistics()
        async with anyio.create_task_group() as group:
            for n in range(32):
                group.start_soon(_submit, store, f"note {n}")
        after = store.statistics()
        assert after.jobs - before.jobs == 32
        assert after.commits - before.commits == 1


async def _submit(store: Store, text: str) -> None:
    await store.submit(INSERT, text)


async def test_jobs_take_effect_in_the_order_of_their_submission(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        futures = [store.submit(INSERT, f"{n:03}") for n in range(200)]
        assert [await future for future in futures] == list(range(1, 201))


async def test_a_bad_job_fails_only_its_own_caller(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        await store.submit(INSERT, "twice")
        futures = [store.submit(INSERT, text) for text in ("a", "twice", "b", "bug", "c")]
        outcomes: list[object] = []
        for future in futures:
            try:
                outcomes.append(await future)
            except HiveError as error:
                outcomes.append(error.wire_code)
        assert outcomes == [2, "store_failed", 3, "bug", 4]
        assert await store.read(texts) == ["twice", "a", "b", "c"]


async def test_a_refusal_is_its_callers_and_changes_nothing(tmp_path: Path) -> None:
    def refuse(conn: sqlite3.Connection, batch: Sequence[str]) -> list[int | HiveError]:
        return [Conflict(f"no {text}") if text == "bad" else _insert(conn, [text])[0] for text in batch]

    operation: Operation[str, int] = Operation("refuse", refuse)
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        good, bad = store.submit(operation, "good"), store.submit(operation, "bad")
        assert await good == 1
        with pytest.raises(Conflict):
            await bad


async def test_applied_runs_before_callers_wake_even_for_a_cancelled_one(tmp_path: Path) -> None:
    seen: list[str] = []
    operation: Operation[str, int] = Operation("insert", _insert, applied=lambda text, _: seen.append(text))
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        gone = store.submit(operation, "gone")
        gone.cancel()
        await store.submit(operation, "here")
        assert seen == ["gone", "here"]


async def test_deferred_jobs_ride_with_the_next_commit_and_come_before_it(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        before = store.statistics().commits
        deferred = store.defer(Operation("note", _insert_nothing_back), "first")
        taken_at_once = deferred.taken
        await store.submit(INSERT, "second")
        assert (taken_at_once, deferred.taken) == (False, True)
        assert await store.read(texts) == ["first", "second"]
        assert store.statistics().commits == before + 1


def _insert_nothing_back(conn: sqlite3.Connection, batch: Sequence[str]) -> list[None]:
    _insert(conn, batch)
    return [None] * len(batch)


async def test_a_deferred_job_is_written_soon_even_if_nothing_follows(tmp_path: Path) -> None:
    written = anyio.Event()
    operation = Operation("note", _insert_nothing_back, applied=lambda *_: written.set())
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        store.defer(operation, "lonely")
        with anyio.fail_after(5):
            await written.wait()


async def test_closing_writes_deferred_jobs_and_refuses_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    store = await Store.open(path, migrations=[NOTES])
    store.defer(Operation("note", _insert_nothing_back), "late")
    await store.aclose()
    await store.aclose()
    with pytest.raises(Closed):
        store.submit(INSERT, "too late")
    async with Store.open(path, migrations=[NOTES]) as store:
        assert await store.read(texts) == ["late"]


async def test_it_may_be_closed_from_another_task_than_opened_it(tmp_path: Path) -> None:
    stores: list[Store] = []

    async def opens() -> None:
        stores.append(await Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]))

    async def closes() -> None:
        await stores[0].aclose()

    for step in (opens, closes):
        async with anyio.create_task_group() as group:
            group.start_soon(step)


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "notes.sqlite", migrations=[NOTES]) as store:
        with pytest.raises(StoreFailed):
            await store.read(lambda conn: conn.execute("DELETE FROM notes").fetchall())


async def test_a_second_owner_in_this_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    async with Store.open(path):
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            await Store.open(path)
    async with Store.open(path):
        pass


async def test_a_second_owner_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    program = (
        "import sys, time; from hyperhive.store.lock import OwnerLock; from pathlib import Path\n"
        "lock = OwnerLock(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    )
    owner = await anyio.open_process([sys.executable, "-c", program, str(path)], stderr=subprocess.DEVNULL)
    assert owner.stdout is not None
    try:
        with anyio.fail_after(20):
            assert (await owner.stdout.receive()).startswith(b"locked")
        with pytest.raises(StoreLocked, match=str(owner.pid)):
            await Store.open(path)
    finally:
        owner.kill()
        await owner.wait()
        await owner.aclose()
    async with Store.open(path):
        pass


async def test_idle_checkpoints_do_not_truncate_the_log(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    async with Store.open(path, migrations=[NOTES]) as store:
        await store.submit(INSERT, "one")
        with anyio.fail_after(10):
            while not store.statistics().checkpoints:
                await store.read(texts)
        assert (tmp_path / "notes.sqlite-wal").stat().st_size > 0
