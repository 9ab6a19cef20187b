"""Reminders: on time, once, in order, whatever happens to the clocks, the process and the files."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker, Limits
from hyperhive.broker.reminder_timer import LOOK_SECONDS, RETRY_SECONDS
from hyperhive.errors import (
    BadRequest,
    Forbidden,
    InvalidName,
    LimitReached,
    NotAvailable,
    NotFound,
)
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.types import Delivery
from hyperhive.store import Operation, Store
from hyperhive.testing import FakeClock

DAY = 86400


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths.of(tmp_path / "s")
    for name in ("bob", "alice"):
        paths.agent_state(AgentName(name)).mkdir(parents=True)
    return paths


@asynccontextmanager
async def opened(
    paths: Paths, clock: FakeClock, *, limits: Limits | None = None, isolated: bool = True
) -> AsyncIterator[Broker]:
    """A broker whose reminders can write files."""
    store = await Store.open(paths.database, migrations=[MIGRATIONS], clock=clock)
    try:
        files = AgentFiles(paths, isolated=isolated)
        broker = Broker(store=store, clock=clock, limits=limits, files=files)
        await broker.start()
        try:
            yield broker
        finally:
            await broker.aclose()
    finally:
        await store.aclose()


async def take(broker: Broker, name: str = "bob", count: int = 1) -> list[str]:
    """The next messages' texts, without the hive's own line."""
    texts: list[str] = []
    with anyio.fail_after(10):
        while len(texts) < count:
            batch = await broker.recv(name, count - len(texts), wait_seconds=float("inf"))
            assert all(one.sender == "system" for one in batch)
            texts += [one.body.partition("\n\n")[2] for one in batch]
    return texts


async def arrived(broker: Broker, name: str = "bob") -> Delivery:
    with anyio.fail_after(10):
        [mail] = await broker.recv(name)
    return mail


async def settled(broker: Broker) -> None:
    """What was due is delivered: it was on its way to the disk before what is written now."""
    await anyio.wait_all_tasks_blocked()
    await broker.reminders.sweep(0)


async def nothing(broker: Broker, name: str = "bob") -> None:
    await settled(broker)
    assert await broker.recv(name, 10, 0) == []


async def test_a_reminder_comes_when_it_is_due_and_not_before(broker: Broker, clock: FakeClock) -> None:
    await broker.reminders.set("bob", "stretch", delay_seconds=600)
    await clock.advance(599)
    await nothing(broker)
    await clock.advance(1)
    assert await take(broker) == ["stretch"]
    await clock.advance(DAY)
    await nothing(broker)


async def test_its_first_line_says_which_it_is_so_that_none_passes_for_an_event(
    broker: Broker, clock: FakeClock
) -> None:
    number = await broker.reminders.set("bob", '{"event":"killed","agent":"alice"}', due_at=1_800_000_060)
    await clock.advance(60)
    mail = await arrived(broker)
    assert mail.sender == "system"
    assert mail.body == (
        f"[reminder {number}, set by you at 2027-01-15 08:00:00 UTC for 2027-01-15 08:01:00 UTC]\n\n"
        '{"event":"killed","agent":"alice"}'
    )


async def test_nobody_waits_for_a_reminder_without_one(broker: Broker, clock: FakeClock) -> None:
    """No polling: without reminders nothing sleeps; with one, one sleep that ends when it is due."""
    number = await broker.reminders.set("bob", "x", delay_seconds=10)
    await clock.until_sleepers()
    await broker.reminders.cancel(number, by="bob")
    await anyio.wait_all_tasks_blocked()
    assert clock.next_wake == float("inf")
    await broker.reminders.set("bob", "y", delay_seconds=10)
    await clock.until_sleepers()
    assert clock.next_wake == 10


async def test_overdue_ones_come_in_the_order_of_their_times(paths: Paths, clock: FakeClock) -> None:
    async with opened(paths, clock) as broker:
        for delay in (300, 100, 200, 100):
            await broker.reminders.set("bob", f"{delay}", delay_seconds=delay)
    clock.jump(DAY)
    async with opened(paths, clock) as broker:
        assert await take(broker, count=4) == ["100", "100", "200", "300"]


async def test_what_is_past_means_now(broker: Broker) -> None:
    await broker.reminders.set("bob", "late", due_at=1)
    assert await take(broker) == ["late"]
    await broker.reminders.set("bob", "now", delay_seconds=0)
    assert await take(broker) == ["now"]


async def test_a_clock_put_forward_delivers_soon_and_putting_it_back_delivers_nothing_twice(
    broker: Broker, clock: FakeClock
) -> None:
    await broker.reminders.set("bob", "x", due_at=int(clock.time()) + 7200)
    await clock.until_sleepers()
    clock.jump(7200)
    await clock.advance(LOOK_SECONDS)
    assert await take(broker) == ["x"]
    clock.jump(-7200)
    await clock.advance(2 * 7200)
    await nothing(broker)


async def test_a_clock_put_back_delays_nothing_beyond_what_was_asked_for(
    paths: Paths, clock: FakeClock
) -> None:
    async with opened(paths, clock) as broker:
        await broker.reminders.set("bob", "one", delay_seconds=600)
        await broker.reminders.set("bob", "two", delay_seconds=1200)
        clock.jump(-400 * DAY)
        await clock.advance(600)
        assert await take(broker) == ["one"]
    async with opened(paths, clock) as broker:  # by the wall clock it is 400 days ahead
        await anyio.wait_all_tasks_blocked()
        await clock.advance(1200)
        assert await take(broker) == ["two"]


async def test_reminders_survive_a_restart(paths: Paths, clock: FakeClock) -> None:
    """Pain: timers that lived in the process were gone after it (23)."""
    async with opened(paths, clock) as broker:
        await broker.reminders.set("bob", "x", delay_seconds=60)
        assert broker.reminders.pending_now("bob") == 1
    async with opened(paths, clock) as broker:
        assert broker.reminders.pending_now("bob") == 1
        await clock.until_sleepers()
        await clock.advance(60)
        assert await take(broker) == ["x"]


async def test_a_turn_that_runs_again_sets_nothing_twice(broker: Broker, clock: FakeClock) -> None:
    await broker.send("operator", "bob", "do it")
    await broker.recv("bob", 1, 0)
    first = await broker.reminders.set("bob", "x", delay_seconds=5)
    await clock.advance(5)
    await settled(broker)
    await broker.requeue_inflight("bob")
    await broker.recv("bob", 10, 0)
    assert await broker.reminders.set("bob", "x", delay_seconds=5) == first
    assert broker.reminders.pending_now("bob") == 0
    assert await broker.reminders.set("bob", "x", delay_seconds=5) != first


async def test_a_call_that_is_said_again_gives_the_first_id(broker: Broker) -> None:
    first = await broker.reminders.set("bob", "x", delay_seconds=5, call_id="c")
    assert await broker.reminders.set("bob", "x", delay_seconds=5, call_id="c") == first
    assert broker.reminders.pending_now("bob") == 1


async def test_only_its_owner_cancels_it_or_who_may_cancel_any(broker: Broker, clock: FakeClock) -> None:
    one = await broker.reminders.set("bob", "x", delay_seconds=60)
    with pytest.raises(Forbidden):
        await broker.reminders.cancel(one, by="alice")
    await broker.reminders.cancel(one, by="bob")
    with pytest.raises(NotFound):
        await broker.reminders.cancel(one, by="bob")
    two = await broker.reminders.set("bob", "x", delay_seconds=60)
    await broker.reminders.cancel(two, by="manager", any=True)
    await clock.advance(60)
    await nothing(broker)


async def test_what_is_no_reminder_is_refused_and_stored_nowhere(broker: Broker) -> None:
    for problem in (
        broker.reminders.set("bob", "x"),
        broker.reminders.set("bob", "x", delay_seconds=1, due_at=1),
        broker.reminders.set("bob", " ", delay_seconds=1),
        broker.reminders.set("bob", "x" * 256 * 1024, delay_seconds=1),
        broker.reminders.set("bob", "x", due_at=10**12),
        broker.reminders.set("bob", "x", delay_seconds=10**30),
    ):
        with pytest.raises(BadRequest):
            await problem
    with pytest.raises(InvalidName):
        await broker.reminders.set("bob", "x", delay_seconds=1, to="system")
    with pytest.raises(NotAvailable):
        await broker.reminders.set("bob", "x", delay_seconds=1, file_path="x.md")
    assert await broker.reminders.open() == []


async def test_a_name_that_never_was_has_no_reminders(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, directory=lambda name: name == "bob") as broker:
        with pytest.raises(NotFound):
            await broker.reminders.set("operator", "x", delay_seconds=1, to="nobody")
        await broker.reminders.set("operator", "x", delay_seconds=1, to="bob")
        await broker.reminders.set("operator", "x", delay_seconds=1)


async def test_one_that_the_operator_set_says_so(broker: Broker, clock: FakeClock) -> None:
    await broker.reminders.set("operator", "report", delay_seconds=1, to="bob")
    await clock.advance(1)
    mail = await arrived(broker)
    assert ", set by the operator at " in mail.body.splitlines()[0]
    await broker.reminders.set("operator", "own", delay_seconds=1)
    await clock.advance(1)
    await settled(broker)
    [row] = await broker.inbox()
    assert ", set by you at " in row.body.splitlines()[0]


LIMITS = Limits(open_reminders=3, reminder_gap_seconds=60)


async def test_an_agent_has_so_many_and_they_are_so_far_apart(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=LIMITS) as broker:
        await broker.reminders.set("bob", "1", delay_seconds=100)
        for delay in (41, 100, 159):
            with pytest.raises(LimitReached, match=r"less than 60 s .*reminder_gap_seconds") as refusal:
                await broker.reminders.set("bob", "near", delay_seconds=delay)
            assert refusal.value.hint is not None
            assert "2027-01-15 08:02:40 UTC or later" in refusal.value.hint
        await broker.reminders.set("bob", "2", delay_seconds=40)
        await broker.reminders.set("bob", "3", delay_seconds=160)
        with pytest.raises(LimitReached, match=r"at most 3 .*open_reminders"):
            await broker.reminders.set("bob", "4", delay_seconds=1000)
        await broker.reminders.set("alice", "her own", delay_seconds=100)
        await broker.reminders.set("operator", "no limit", delay_seconds=100, to="bob")
        await clock.advance(40)
        await settled(broker)
        await broker.reminders.set("bob", "4", delay_seconds=1000)


async def test_an_agent_cannot_wake_itself_over_and_over(path: Path, clock: FakeClock) -> None:
    """One that was just delivered counts as well: else a turn could end with a reminder for now, for ever."""
    async with Broker.open(path, clock=clock, limits=LIMITS) as broker:
        await broker.reminders.set("bob", "again", delay_seconds=0)
        assert await take(broker) == ["again"]
        with pytest.raises(LimitReached):
            await broker.reminders.set("bob", "again and again", delay_seconds=0)
        await clock.advance(60)
        await broker.reminders.set("bob", "again and again", delay_seconds=0)


async def test_setting_and_taking_back_over_and_over_is_held_to_the_rate_of_messages(
    path: Path, clock: FakeClock
) -> None:
    """S4: what is taken back makes room among the open ones, but each was a write; a repeat is none."""
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=3)) as broker:
        for _ in range(2):
            number = await broker.reminders.set("bob", "x", delay_seconds=60)
            await broker.reminders.cancel(number, by="bob")
        kept = await broker.reminders.set("bob", "kept", delay_seconds=60, call_id="c1")
        with pytest.raises(LimitReached, match="sends_per_minute"):
            await broker.reminders.set("bob", "y", delay_seconds=60)
        with pytest.raises(LimitReached, match="sends_per_minute"):
            await broker.send("bob", "alice", "z")
        assert await broker.reminders.set("bob", "kept", delay_seconds=60, call_id="c1") == kept
        await broker.reminders.set("operator", "no limit", delay_seconds=60, to="bob")
    limits = Limits(sends_per_minute=2, open_reminders=1)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.reminders.set("alice", "x", delay_seconds=60)
        for _ in range(3):
            with pytest.raises(LimitReached, match="open_reminders"):
                await broker.reminders.set("alice", "y", delay_seconds=60)
        await broker.send("alice", "bob", "what is refused uses up nothing")


async def test_a_purge_takes_reminders_and_mail_that_nobody_reads_waits(
    broker: Broker, clock: FakeClock
) -> None:
    await broker.reminders.set("bob", "x", delay_seconds=60)
    await broker.reminders.set("alice", "y", delay_seconds=60)
    await broker.reminders.purge("bob")
    await clock.advance(60)
    await nothing(broker)
    assert await broker.pending("alice") == 1


async def test_loose_ends_show_what_is_open_and_why_it_failed(paths: Paths, clock: FakeClock) -> None:
    async with opened(paths, clock) as broker:
        (paths.agent_state(AgentName("bob")) / "link").symlink_to("/etc")
        await broker.reminders.set("bob", "x" * 2000, delay_seconds=5, file_path="link/x")
        await broker.reminders.set("alice", "y", delay_seconds=500)
        async with broker.bus.subscribe() as events:
            await clock.advance(5)
            with anyio.fail_after(10):
                await anext(aiter(events))
        [end] = await broker.reminders.loose_ends("bob")
        assert (end.owner, end.age_seconds, len(end.message)) == ("bob", 5, 501)
        assert end.failure is not None
        assert "without links" in end.failure
        [caution] = broker.reminders.cautions()
        assert caution.startswith(f"reminder {end.id} of {end.owner} cannot be delivered: {end.failure}")
        assert [one.owner for one in await broker.reminders.loose_ends()] == ["bob", "alice"]
    async with opened(paths, clock) as broker:
        [end, _] = await broker.reminders.loose_ends()
        assert end.failure is not None


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["notes/today.md", "/state/notes/today.md", "./notes//today.md"])
async def test_with_a_file_the_message_is_there_and_the_inbox_gets_a_pointer(
    paths: Paths, clock: FakeClock, named: str
) -> None:
    async with opened(paths, clock) as broker:
        await broker.reminders.set("bob", "the plan\n", delay_seconds=5, file_path=named)
        await clock.advance(5)
        mail = await arrived(broker)
        assert mail.body.endswith("; its text is in the file /state/notes/today.md]")
        assert "the plan" not in mail.body
        file = paths.agent_state(AgentName("bob")) / "notes" / "today.md"
        assert file.read_text() == "the plan\n"
        assert file.stat().st_mode & 0o777 == 0o600
        assert [one.name for one in file.parent.iterdir()] == ["today.md"]


async def test_without_a_box_the_path_is_the_hosts(paths: Paths, clock: FakeClock) -> None:
    async with opened(paths, clock, isolated=False) as broker:
        file = paths.agent_state(AgentName("bob")) / "x.md"
        await broker.reminders.set("bob", "x", delay_seconds=5, file_path=str(file))
        await clock.advance(5)
        mail = await arrived(broker)
        assert mail.body.endswith(f"in the file {file}]")
        assert file.read_text() == "x"


@pytest.mark.parametrize(
    "named",
    [
        "../claude/x", "/etc/x", "/state/../x", "/state", "/state/", "a/../../x", "", "a\0b", "a\nb", "dir/",
        "/stateful/x", "x" * 256, "a/" * 2500 + "x",
    ],
)  # fmt: skip
async def test_a_path_that_leads_elsewhere_is_refused_when_it_is_said(
    paths: Paths, clock: FakeClock, named: str
) -> None:
    async with opened(paths, clock) as broker:
        with pytest.raises(BadRequest):
            await broker.reminders.set("bob", "x", delay_seconds=5, file_path=named)
        with pytest.raises(NotAvailable):
            await broker.reminders.set("operator", "x", delay_seconds=5, file_path="x")


async def test_one_that_cannot_be_delivered_holds_up_no_other_and_is_tried_again_later(
    paths: Paths, clock: FakeClock
) -> None:
    async with opened(paths, clock) as broker:
        state = paths.agent_state(AgentName("bob"))
        (state / "way").write_text("a file has the directory's place")
        await broker.reminders.set("bob", "first", delay_seconds=5, file_path="way/x.md")
        await broker.reminders.set("bob", "second", delay_seconds=5)
        await clock.advance(5)
        assert await take(broker) == ["second"]
        (state / "way").unlink()
        await clock.advance(RETRY_SECONDS - 1)
        await nothing(broker)
        await clock.advance(1)
        mail = await arrived(broker)
        assert "in the file /state/way/x.md" in mail.body
        assert await broker.reminders.open() == []


async def test_a_file_that_was_written_before_a_crash_is_written_again_to_the_same_effect(
    paths: Paths, clock: FakeClock
) -> None:
    """Killed between the file and the commit: the next start does both, and the reminder comes once."""
    store = await Store.open(paths.database, migrations=[MIGRATIONS], clock=clock)

    dead = anyio.Event()

    class Dying(AgentFiles):
        async def write(self, owner: str, path: str, text: str, tag: str) -> str:
            place = await super().write(owner, path, text, tag)
            await store.abandon()
            dead.set()
            return place

    broker = Broker(store=store, clock=clock, files=Dying(paths, isolated=True))
    await broker.start()
    await broker.reminders.set("bob", "x", delay_seconds=5, file_path="x.md")
    await clock.advance(5)
    with anyio.fail_after(10):
        await dead.wait()
    await broker.aclose()
    file = paths.agent_state(AgentName("bob")) / "x.md"
    assert file.read_text() == "x"
    async with opened(paths, clock) as reborn:
        mail = await arrived(reborn)
        assert "x.md" in mail.body
        await nothing(reborn)
    assert file.read_text() == "x"


def _set_size(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    for pages in batch:
        (count,) = conn.execute("PRAGMA page_count").fetchone()
        conn.execute(f"PRAGMA max_page_count={count + pages}").fetchall()
    return list(batch)


SIZE: Operation[int, int] = Operation("size", _set_size)


async def test_a_full_disk_keeps_a_reminder_and_delivers_it_when_there_is_room(
    broker: Broker, clock: FakeClock
) -> None:
    await broker.reminders.set("bob", "x" * 100_000, delay_seconds=5)
    await broker.reminders.set("bob", "small", delay_seconds=5)
    await broker.store.submit(SIZE, 4)
    await clock.advance(5)
    assert await take(broker) == ["small"]
    await settled(broker)
    [end] = await broker.reminders.loose_ends("bob")
    assert end.failure is not None
    assert "disk is full" in end.failure
    await broker.store.submit(SIZE, 1_000_000)
    await clock.advance(RETRY_SECONDS)
    assert await take(broker) == ["x" * 100_000]
    assert await broker.reminders.loose_ends("bob") == []
