"""Backup and restore: everything that a hive keeps comes back, and nothing else is ever touched."""

import io
import os
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from console import Console
from hyperhive.cli.archive import MANIFEST, read_archive, write_archive
from hyperhive.errors import BadRequest, StoreFailed
from hyperhive.store.lock import OwnerLock


def make_state(state: Path) -> None:
    """A state directory as a hive leaves it, with what a hostile agent may have put into its own."""
    for name in (
        "accounts",
        "log",
        "cli/2.1.328",
        "agents/alice/state/src",
        "agents/alice/claude",
        "agents/alice/harness",
    ):
        (state / name).mkdir(mode=0o700, parents=True)
    for database in ("hive.sqlite", "agents/alice/harness/hyperhive-events.sqlite"):
        with closing(sqlite3.connect(state / database)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE rows(text TEXT)")
            connection.execute("INSERT INTO rows VALUES (?)", (database,))
    (state / "accounts" / "default").write_text('{"kind":"key","secret":"sk-ant-dummy"}')
    (state / "accounts" / "default").chmod(0o600)
    (state / "log" / "hive.log").write_text("old\n")
    (state / "cli" / "2.1.328" / "claude").write_text("#!/bin/sh\n")
    own = state / "agents" / "alice" / "state"
    (own / "src" / "größe \n.txt").write_text("work")
    (own / "run.sh").write_text("#!/bin/sh\n")
    (own / "run.sh").chmod(0o755)
    (own / "hosts").symlink_to("/etc/hosts")
    (own / "sub").symlink_to("src", target_is_directory=True)
    os.mkfifo(own / "pipe")
    (own / "mine.sqlite").write_text("no database at all")
    (state / "agents" / "alice" / "claude" / "session.jsonl").write_text("{}\n")


def rows(database: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT text FROM rows").fetchall()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    make_state(path)
    return path


def test_a_round_trip_brings_everything_back(console: Console, state: Path, tmp_path: Path) -> None:
    made = console.run("backup", str(tmp_path / "b.tar.gz"), "--state-dir", str(state), "--json")
    assert made.code == 0, made.err
    assert made.json["databases"] == 2
    assert made.json["skipped"] == 1  # the fifo
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600
    back = tmp_path / "back"
    put = console.run("restore-backup", str(tmp_path / "b.tar.gz"), "--state-dir", str(back), "--json")
    assert put.code == 0, put.err
    assert rows(back / "hive.sqlite") == [("hive.sqlite",)]
    assert rows(back / "agents/alice/harness/hyperhive-events.sqlite") == [
        ("agents/alice/harness/hyperhive-events.sqlite",)
    ]
    assert (back / "accounts" / "default").read_text() == '{"kind":"key","secret":"sk-ant-dummy"}'
    assert stat.S_IMODE((back / "accounts" / "default").stat().st_mode) == 0o600
    own = back / "agents" / "alice" / "state"
    assert (own / "src" / "größe \n.txt").read_text() == "work"
    assert stat.S_IMODE((own / "run.sh").stat().st_mode) == 0o755
    assert (own / "hosts").readlink() == Path("/etc/hosts")
    assert (own / "sub").readlink() == Path("src")
    assert (own / "mine.sqlite").read_text() == "no database at all"
    assert not (own / "pipe").exists()
    assert not (back / "log").exists()
    assert not (back / "cli").exists()


def test_a_database_that_is_being_written_is_backed_up_whole(state: Path, tmp_path: Path) -> None:
    """What was committed is in the backup, also what still stands in the write-ahead log; nothing half-written is."""
    with closing(sqlite3.connect(state / "hive.sqlite", isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO rows VALUES ('committed')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO rows VALUES ('not committed')")
        write_archive(state, tmp_path / "b.tar", version="0")
    read_archive(tmp_path / "b.tar", tmp_path / "back")
    assert rows(tmp_path / "back" / "hive.sqlite") == [("hive.sqlite",), ("committed",)]


@pytest.mark.timeout(20)
def test_what_the_manager_left_in_a_proposal_is_no_database_of_the_hive(state: Path, tmp_path: Path) -> None:
    """The manager writes below `proposed`: its files are bytes, its links are links, and a fifo holds up nothing."""
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as connection, connection:
        connection.execute("CREATE TABLE secrets(text TEXT)")
    config = state / "proposed" / "alice" / "config"
    config.mkdir(parents=True)
    (config / "garbage.sqlite").write_text("no database at all")
    os.mkfifo(config / "fifo.sqlite")
    (config / "link.sqlite").symlink_to(foreign)
    (config / "notes-wal").write_text("kept")
    (config / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    made = write_archive(state, tmp_path / "b.tar", version="1")
    assert made.databases == 2
    read_archive(tmp_path / "b.tar", tmp_path / "back")
    back = tmp_path / "back" / "proposed" / "alice" / "config"
    assert (back / "garbage.sqlite").read_text() == "no database at all"
    assert (back / "notes-wal").read_text() == "kept"
    assert (back / "link.sqlite").readlink() == foreign
    assert (back / "elsewhere").readlink() == tmp_path
    assert not (back / "fifo.sqlite").exists()


def test_a_link_in_a_databases_place_is_not_followed(state: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as connection, connection:
        connection.execute("CREATE TABLE secrets(text TEXT)")
    (state / "agents" / "alice" / "harness" / "other.sqlite").symlink_to(foreign)
    assert write_archive(state, tmp_path / "b.tar", version="1").databases == 2


def test_without_files_the_agents_own_files_stay_out(console: Console, state: Path, tmp_path: Path) -> None:
    assert console.run("backup", str(tmp_path / "b.tar"), "--no-files", "--state-dir", str(state)).code == 0
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
    assert names[0] == MANIFEST
    assert "agents/alice/harness/hyperhive-events.sqlite" in names
    assert not [name for name in names if "/state" in name or "/claude" in name]


def test_a_backup_never_replaces_a_file(console: Console, state: Path, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("precious")
    done = console.run("backup", str(tmp_path / "b.tar"), "--state-dir", str(state), "--json")
    assert (done.code, done.json["code"]) == (4, "conflict")
    assert (tmp_path / "b.tar").read_text() == "precious"


def test_a_backup_that_cannot_be_written_leaves_nothing(state: Path, tmp_path: Path) -> None:
    (state / "hive.sqlite").write_bytes(b"SQLite format 3\0" + b"rubbish" * 300)
    target = tmp_path / "out" / "b.tar"
    target.parent.mkdir()
    with pytest.raises(StoreFailed):
        write_archive(state, target, version="0")
    assert list(target.parent.iterdir()) == []


def test_nothing_is_restored_over_a_state_that_is_there(
    console: Console, state: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "b.tar"
    write_archive(state, backup, version="0")
    done = console.run("restore-backup", str(backup), "--state-dir", str(state), "--json")
    assert (done.code, done.json["code"]) == (4, "conflict")
    (state / "new").write_text("x")
    done = console.run("restore-backup", str(backup), "--state-dir", str(state), "--replace", "--json")
    assert done.code == 0, done.err
    assert not (state / "new").exists()
    [aside] = tmp_path.glob("state.before-*")
    assert (aside / "new").read_text() == "x"
    assert (state / "cli" / "2.1.328" / "claude").exists()


def test_nothing_is_restored_while_a_hive_owns_the_state(
    console: Console, state: Path, tmp_path: Path
) -> None:
    write_archive(state, tmp_path / "b.tar", version="0")
    lock = OwnerLock(state / "hive.sqlite")
    try:
        done = console.run("restore-backup", str(tmp_path / "b.tar"), "--state-dir", str(state), "--replace")
    finally:
        lock.release()
    assert done.code == 4
    assert "owned by process" in done.err
    assert rows(state / "hive.sqlite")


def test_there_must_be_something_to_back_up(console: Console, tmp_path: Path) -> None:
    assert console.run("backup", str(tmp_path / "b.tar"), "--state-dir", str(tmp_path / "none")).code == 3
    assert console.run("restore-backup", str(tmp_path / "none.tar")).code == 3


def archive(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """An archive of our format with members of somebody else's choice; a string is a link's target."""
    manifest = b'{"format":1,"version":"0","made_at":0,"state_dir":"/x","with_files":true}'
    with tarfile.open(path, "w") as tar:
        for name, content in ((MANIFEST, manifest), *members):
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"x")],
        [("/out", b"x")],
        [("a/../../out", b"x")],
        [("d", ".."), ("d/out", b"x")],
        [("d/out", b"x"), ("d", "..")],
    ],
    ids=["above", "absolute", "through", "link first", "link last"],
)
def test_no_name_in_a_backup_leads_out_of_it(tmp_path: Path, members: list[tuple[str, bytes | str]]) -> None:
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises((BadRequest, StoreFailed)):
        read_archive(archive(tmp_path / "b.tar", *members), room / "back")
    assert list(room.iterdir()) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"rubbish" * 1000, b"\x1f\x8b\x08rubbish"])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises((BadRequest, StoreFailed)):
        read_archive(tmp_path / "b.tar", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_backup_that_was_cut_off_is_refused(state: Path, tmp_path: Path) -> None:
    write_archive(state, tmp_path / "b.tar.gz", version="0")
    whole = (tmp_path / "b.tar.gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((BadRequest, StoreFailed)):
        read_archive(tmp_path / "b.tar.gz", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_backup_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        manifest = b'{"format":2,"version":"9.0","made_at":0,"state_dir":"/x","with_files":true}'
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest))
    with pytest.raises(BadRequest, match="format 2"):
        read_archive(tmp_path / "b.tar", tmp_path / "back")
