"""Migrations: copied first, idempotent, several parts in one file, and newer schemas refused."""

import sqlite3
from pathlib import Path

import pytest

from hyperhive.errors import StoreFailed
from hyperhive.store import Database, Migrations, Store


def notes(*, newer: bool = False, broken: bool = False) -> Migrations:
    migrations = Migrations("notes")

    @migrations()
    def m0001_notes(db: Database) -> None:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")

    if newer or broken:

        @migrations()
        def m0002_colour(db: Database) -> None:
            db.execute("ALTER TABLE notes ADD COLUMN colour TEXT")
            if broken:
                db.execute("SELECT nonsense FROM nowhere")

    return migrations


def columns(path: Path) -> list[str]:
    conn = sqlite3.connect(path)
    try:
        return [row[1] for row in conn.execute("PRAGMA table_info(notes)")]
    finally:
        conn.close()


def others() -> Migrations:
    migrations = Migrations("others")

    @migrations()
    def m0001_others(db: Database) -> None:
        db.execute("CREATE TABLE others (id INTEGER PRIMARY KEY)")

    return migrations


async def test_a_new_database_is_not_copied(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "hive.sqlite", migrations=[notes()]) as store:
        assert store.copied_to is None


async def test_an_existing_database_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    async with Store.open(path, migrations=[notes()]):
        pass
    async with Store.open(path, migrations=[notes(newer=True)]) as store:
        assert store.copied_to is not None
        assert columns(store.copied_to) == ["id", "text"]
        assert store.copied_to.stat().st_mode & 0o777 == 0o600
    assert columns(path) == ["id", "text", "colour"]


async def test_opening_again_finds_nothing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    for _ in range(3):
        async with Store.open(path, migrations=[notes(newer=True)]) as store:
            assert store.copied_to is None


async def test_a_migration_that_fails_is_rolled_back_and_said(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    async with Store.open(path, migrations=[notes()]):
        pass
    with pytest.raises(StoreFailed):
        await Store.open(path, migrations=[notes(broken=True)])
    assert columns(path) == ["id", "text"]
    async with Store.open(path, migrations=[notes()]):
        pass


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    async with Store.open(path, migrations=[notes(newer=True)]):
        pass
    with pytest.raises(StoreFailed, match="newer version"):
        await Store.open(path, migrations=[notes()])
    assert columns(path) == ["id", "text", "colour"]


async def test_a_set_that_no_part_of_this_version_has_is_newer(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    async with Store.open(path, migrations=[notes(), others()]):
        pass
    with pytest.raises(StoreFailed, match="others/m0001_others"):
        await Store.open(path, migrations=[notes()])


async def test_a_part_alone_may_open_the_database_of_a_whole_hive(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    accounts = Migrations("accounts")

    @accounts()
    def m0001_accounts(db: Database) -> None:
        db.execute("CREATE TABLE accounts (name TEXT)")

    async with Store.open(path, migrations=[notes(), accounts]):
        pass
    async with Store.open(path, migrations=[notes()]):
        pass


async def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    path.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 100)
    with pytest.raises(StoreFailed, match="no SQLite database"):
        await Store.open(path, migrations=[notes()])
