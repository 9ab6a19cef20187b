"""`kill -9` at any moment: nothing lost, nothing out after its ack, nothing out of order, redelivered ones marked."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hyperhive.broker import Broker
from hyperhive.protocol.types import Delivery
from hyperhive.testing import HistoryChecker

CHILD = Path(__file__).with_name("kill_child.py")


def play(checker: HistoryChecker, line: list[Any]) -> None:
    """One line of the child's notes."""
    match line:
        case ["send", body]:
            checker.send_begins(body)
        case ["sent", sender, recipient, body, number]:
            checker.send_ends(sender, recipient, body, number)
        case ["got", name, rows]:
            checker.delivered(
                name,
                [
                    Delivery(id=row[0], sender=row[1], recipient=name, body=row[2], at=0, redelivered=row[3])
                    for row in rows
                ],
            )
        case ["requeued", name, bodies]:
            checker.requeued(name, bodies)
        case ["ack", bodies]:
            checker.ack_begins(bodies)
        case ["acked", name, bodies]:
            checker.ack_ends(name, bodies)
        case ["open"]:
            pass
        case _:
            pytest.fail(f"the child said {line}")


def one_life(path: Path, checker: HistoryChecker, first: int, chance: random.Random) -> int:
    """Starts the child, kills it at a random moment, plays what it said. Returns how many lines that was."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(path), str(first), str(chance.randrange(10**6))],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert line == b'["open"]\n', line
        lines = [child.stdout.readline() for _ in range(chance.randrange(1, 400))]
        time.sleep(chance.random() / 200)  # the moment of death, not a wait for anything
    finally:
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        child.stdout.close()
        child.wait()
    lines += rest.splitlines(keepends=True)
    for line in lines:
        if line.endswith(b"\n"):
            play(checker, msgspec.json.decode(line))
    return len(lines)


async def drain(path: Path, checker: HistoryChecker) -> None:
    """Everything that is left, taken out and counted."""
    async with Broker.open(path) as broker:
        for name in ("bob", "carol"):
            await broker.requeue_inflight(name)
            drained: list[str] = []
            while batch := await broker.recv(name, 1000, 0):
                checker.delivered(name, batch)
                drained += [message.body for message in batch]
            checker.nothing_lost(name, drained)


def lives(path: Path, checker: HistoryChecker, count: int, seed: int) -> int:
    chance = random.Random(seed)
    lines = 0
    for life in range(count):
        lines += one_life(path, checker, life * 1_000_000, chance)
        checker.restarted(killed=True)
    return lines


@pytest.mark.may_block("the parent of a child that is killed; no loop is served meanwhile")
async def test_killing_it_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    checker = HistoryChecker()
    assert lives(tmp_path / "hive.sqlite", checker, 12, seed=1) > 1000
    await drain(tmp_path / "hive.sqlite", checker)


@pytest.mark.campaign
@pytest.mark.may_block("the parent of a child that is killed; no loop is served meanwhile")
async def test_killing_it_a_thousand_times_loses_nothing(tmp_path: Path) -> None:
    for seed in range(20):
        checker = HistoryChecker()
        path = tmp_path / f"{seed}.sqlite"
        lives(path, checker, 50, seed=seed)
        await drain(path, checker)
