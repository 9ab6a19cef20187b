"""A power cut at any point, and a disk that fails at any write: what was answered is there, what was acked is gone.

The real store runs on the real SQLite; a shim in SQLite's file layer records what reached the disk and when.
"""

import random
import shutil
from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker
from hyperhive.errors import StoreFailed
from hyperhive.store import connections
from hyperhive.testing import HistoryChecker
from hyperhive.testing.checker import Violation
from sqlite_shim import (
    SQLITE_FULL,
    SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
    SQLITE_OK,
    Disk,
    Recorder,
    library,
    recording,
)

pytestmark = [
    pytest.mark.skipif(
        library() is None, reason="this Python has SQLite built in; use one that loads libsqlite3"
    ),
]


@pytest.fixture(autouse=True)
def _soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperhive.store.writer.IDLE_CHECKPOINT_SECONDS", 0.01)


RECEIVERS = ("bob", "carol")


class Story:
    """Some work with a broker; each thing that is seen becomes a note in the record, for a checker."""

    def __init__(self, broker: Broker, recorder: Recorder) -> None:
        self.broker = broker
        self.recorder = recorder
        self.failures = 0

    async def send(self, sender: str, recipient: str, body: str) -> None:
        self.recorder.note(lambda checker: checker.send_begins(body))
        try:
            receipt = await self.broker.send(sender, recipient, body)
        except StoreFailed:
            self.failures += 1
            return
        self.recorder.note(lambda checker: checker.send_ends(sender, recipient, body, receipt.id))

    async def work(self, name: str, limit: int, ending: str) -> None:
        batch = await self.broker.recv(name, limit, 0)
        bodies = [message.body for message in batch]
        self.recorder.note(lambda checker: checker.delivered(name, batch))
        try:
            if ending == "ack":
                self.recorder.note(lambda checker: checker.ack_begins(bodies))
                await self.broker.ack_turn(name, [message.id for message in batch])
                self.recorder.note(lambda checker: checker.ack_ends(name, bodies))
            elif ending == "requeue":
                await self.broker.requeue_inflight(name)
                self.recorder.note(lambda checker: checker.requeued(name))
        except StoreFailed:
            self.failures += 1

    async def play(self, rounds: int, chance: random.Random) -> None:
        for number in range(rounds):
            async with anyio.create_task_group() as group:
                for sender in ("alice", "dave", "erin"):
                    body = f"{sender} {number} " + "x" * chance.choice((10, 300, 9000))
                    group.start_soon(self.send, sender, chance.choice(RECEIVERS), body)
                name = chance.choice(RECEIVERS)
                ending = chance.choice(("ack", "ack", "requeue", "keep"))
                group.start_soon(self.work, name, chance.randint(1, 4), ending)
            if number % 9 == 8:
                await self.broker.vacuum()
                await self.checkpoint()

    async def checkpoint(self) -> None:
        """Idles until the writer has moved the log into the database, which then goes on in the same log file."""
        before = self.broker.store.statistics().checkpoints
        # Something new to move: what was there before, the writer may have moved before we looked.
        await self.send("frank", RECEIVERS[0], f"after checkpoint {before}")
        while self.broker.store.statistics().checkpoints == before:
            await self.broker.counts()


async def record(directory: Path, rounds: int, seed: int) -> Recorder:
    """Plays a story and gives the record of it. The directory must exist."""
    with recording(directory) as recorder:
        async with Broker.open(directory / "hive.sqlite") as broker:
            await Story(broker, recorder).play(rounds, random.Random(seed))
    return recorder


async def check_after(directory: Path, checker: HistoryChecker) -> None:
    """Opens what the cut has left, and takes everything out."""
    checker.restarted(killed=True)
    async with Broker.open(directory / "hive.sqlite") as broker:
        for name in RECEIVERS:
            await broker.requeue_inflight(name)
            batch = await broker.recv(name, 100_000, 0)
            checker.delivered(name, batch)
            checker.nothing_lost(name, [message.body for message in batch])


async def cut_everywhere(tmp_path: Path, rounds: int, seed: int, points: int) -> int:
    """Plays the story once, then cuts it at many points; returns how many cuts were checked."""
    story = tmp_path / f"story-{seed}"
    story.mkdir()
    recorder = await record(story, rounds, seed)
    chance = random.Random(seed)
    count = len(recorder.steps)
    opened = next(at for at, step in enumerate(recorder.steps) if step.what == "note")
    for cut in sorted(chance.sample(range(opened, count + 1), min(points, count - opened))):
        checker = HistoryChecker()
        disk = Disk()
        for step in recorder.steps[:cut]:
            disk.apply(step)
            if step.note is not None:
                step.note(checker)
        after = tmp_path / "after"
        after.mkdir()
        disk.cut(after, chance)
        await check_after(after, checker)
        shutil.rmtree(after)
    return count


@pytest.mark.may_block("copies of a database are written between two brokers' lives")
async def test_a_power_cut_anywhere_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    assert await cut_everywhere(tmp_path, rounds=40, seed=1, points=60) > 200


@pytest.mark.may_block("copies of a database are written between two brokers' lives")
async def test_this_check_sees_what_a_weaker_promise_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With synchronous=NORMAL a commit is only in the page cache when it is answered."""
    monkeypatch.setitem(connections._WRITER_PRAGMAS, "synchronous", 1)
    with pytest.raises(Violation, match="lost on the way"):
        await cut_everywhere(tmp_path, rounds=40, seed=1, points=60)


@pytest.mark.campaign
@pytest.mark.may_block("copies of a database are written between two brokers' lives")
async def test_power_cuts_at_every_step_of_many_stories(tmp_path: Path) -> None:
    for seed in range(100, 130):
        await cut_everywhere(tmp_path, rounds=120, seed=seed, points=100_000)


CODES = {
    "full": {"write": SQLITE_FULL, "truncate": SQLITE_IOERR_TRUNCATE, "sync": SQLITE_IOERR_FSYNC},
    "failing": {"write": SQLITE_IOERR_WRITE, "truncate": SQLITE_IOERR_TRUNCATE, "sync": SQLITE_IOERR_FSYNC},
}


async def fail_once(tmp_path: Path, kind: str, number: int, lasting: int) -> tuple[int, int]:
    """One story in which the disk fails from step `number` on, `lasting` times. Returns faults and failed requests."""
    directory = tmp_path / f"{kind}-{number}-{lasting}"
    directory.mkdir()
    checker = HistoryChecker()
    seen = faults = 0
    armed = False

    def fault(what: str, name: str) -> int:
        nonlocal seen, faults
        del name
        if not armed:
            return SQLITE_OK
        seen += 1
        if number <= seen < number + lasting:
            faults += 1
            return CODES[kind][what]
        return SQLITE_OK

    with recording(directory, fault) as recorder:
        broker = await Broker.open(directory / "hive.sqlite")
        armed = True
        story = Story(broker, recorder)
        await story.play(6, random.Random(7))
        armed = False
        await broker.store.abandon()
        await broker.aclose()
    for step in recorder.steps:
        if step.note is not None:
            step.note(checker)
    await check_after(directory, checker)
    return faults, story.failures


@pytest.mark.may_block("several brokers' lives one after the other")
@pytest.mark.parametrize("kind", CODES)
async def test_a_disk_that_fails_at_any_one_write_or_flush_loses_nothing(tmp_path: Path, kind: str) -> None:
    failed = 0
    for number in range(1, 1000, 3):
        faults, failures = await fail_once(tmp_path, kind, number, lasting=1 + number % 3)
        failed += failures
        if not faults:
            assert number > 10
            break
    assert failed > 0
