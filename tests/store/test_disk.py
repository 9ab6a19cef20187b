"""A disk that is full, read-only or missing: clear errors, nothing half stored, and no restart needed afterwards."""

import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from hyperhive.broker import Broker
from hyperhive.errors import StoreFailed
from hyperhive.store import Operation


def _set_size(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    results: list[int] = []
    for pages in batch:
        (count,) = conn.execute("PRAGMA page_count").fetchone()
        conn.execute(f"PRAGMA max_page_count={count + pages}").fetchall()
        results.append(count)
    return results


LIMIT: Operation[int, int] = Operation("limit", _set_size)


async def test_a_full_disk_fails_the_send_stores_nothing_and_recovers(tmp_path: Path) -> None:
    async with Broker.open(tmp_path / "hive.sqlite") as broker:
        first = await broker.send("alice", "bob", "before")
        await broker.store.submit(LIMIT, 4)
        with pytest.raises(StoreFailed, match="disk is full"):
            await broker.send("alice", "bob", "x" * 100_000)
        assert await broker.pending("bob") == 1
        await broker.store.submit(LIMIT, 1_000_000)
        second = await broker.send("alice", "bob", "after")
        assert second.id == first.id + 1
        assert [message.body for message in await broker.recv("bob", 5, 0)] == ["before", "after"]


async def test_one_who_does_not_fit_leaves_room_for_those_who_do(tmp_path: Path) -> None:
    async with Broker.open(tmp_path / "hive.sqlite") as broker:
        await broker.store.submit(LIMIT, 4)
        large = broker.send("alice", "bob", "x" * 200_000)
        small = broker.send("carol", "bob", "small")
        outcomes = [await _outcome(one) for one in (large, small)]
        assert outcomes[0] == "store_failed"
        assert [message.body for message in await broker.recv("bob", 5, 0)] == ["small"]


async def _outcome(sending: Awaitable[object]) -> str:
    try:
        await sending
    except StoreFailed as error:
        return error.wire_code
    return "ok"


async def test_writes_that_the_kernel_refuses_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    program = Path(__file__).with_name("full_disk_child.py")
    result = subprocess.run(  # noqa: ASYNC221 - a child with limits of its own; nothing else runs here
        [sys.executable, str(program), str(tmp_path / "hive.sqlite")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    refused, kept = result.stdout.split()
    assert int(refused) > 0
    assert int(kept) > 0


async def test_a_missing_directory_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="lock file"):
        await Broker.open(tmp_path / "nowhere" / "hive.sqlite")


async def test_a_database_that_turns_read_only_fails_what_it_cannot_store(tmp_path: Path) -> None:
    def read_only(conn: sqlite3.Connection, batch: Sequence[bool]) -> list[None]:
        for on in batch:
            conn.execute(f"PRAGMA query_only={int(on)}").fetchall()
        return [None] * len(batch)

    switch: Operation[bool, None] = Operation("switch", read_only)
    async with Broker.open(tmp_path / "hive.sqlite") as broker:
        await broker.send("alice", "bob", "one")
        await broker.store.submit(switch, True)  # noqa: FBT003
        with pytest.raises(StoreFailed, match="read-only"):
            await broker.send("alice", "bob", "two")
        [message] = await broker.recv("bob", 1, 0)
        with pytest.raises(StoreFailed):
            await broker.ack_turn("bob")
        assert broker.in_flight_now("bob") == [message.id]
    async with Broker.open(tmp_path / "hive.sqlite") as broker:
        assert await broker.pending("bob") + len(broker.in_flight_now("bob")) == 1
