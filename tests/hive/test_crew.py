"""A harness of its own without its line: nobody claims to know what it does, and its loss is told as a crash."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from hyperhive.background import Background
from hyperhive.bus import Bus, Frame, Missed, Subscription
from hyperhive.client import RemoteHive, connect
from hyperhive.client.attached import AttachedHarness
from hyperhive.config import HiveConfig, load
from hyperhive.crew import LOST
from hyperhive.host import Hive
from hyperhive.members import CRASH_SECONDS, REPORT_SECONDS, Attached
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    AnyLiveEvent,
    ContainerStateChanged,
    Lagged,
    Sent,
    StatusChanged,
    TurnStateChanged,
)
from hyperhive.protocol.harness_line import HarnessCommand, History, Reread
from hyperhive.protocol.live import encode_live
from hyperhive.protocol.replies import EventPage, Ok, Reply
from hyperhive.testing import FakeClock

ALICE = AgentName("alice")
THINKING = encode_live(TurnStateChanged(state="thinking", since_unix=5))


class Line:
    """A line that answers with what it was given, and keeps what it was asked."""

    agent = ALICE

    def __init__(self, reply: Reply | None = None) -> None:
        self._reply = reply or Ok()
        self.asked: list[HarnessCommand] = []

    async def ask(self, command: HarnessCommand, *, within: float = 30.0) -> Reply:
        del within
        self.asked.append(command)
        await anyio.lowlevel.checkpoint()
        return self._reply

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


class World:
    """One agent's `Attached`, under a clock of the test's."""

    def __init__(self, background: Background) -> None:
        self.clock = FakeClock()
        self.bus: Bus[AnyLiveEvent] = Bus()
        self.lost = 0
        self._background = background
        self.member = self.make(started_by_hive=False)

    def make(self, *, started_by_hive: bool) -> Attached:
        return Attached(
            ALICE,
            self.bus,
            clock=self.clock,
            background=self._background,
            lost=self._lose,
            started_by_hive=started_by_hive,
        )

    async def _lose(self) -> None:
        self.lost += 1
        await anyio.lowlevel.checkpoint()

    def shown(self) -> tuple[str, str | None, int]:
        gist = self.member.gist()
        return gist.state, gist.reason, gist.since

    def now(self) -> int:
        return int(self.clock.time())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    background = await Background("test").start()
    yield World(background)
    await background.aclose()


async def test_before_it_reports_for_duty_it_waits_for_the_operator_since_now(world: World) -> None:
    assert world.shown() == ("waiting", "operator", world.now())


async def test_one_that_the_hive_itself_starts_needs_nobody_meanwhile(world: World) -> None:
    """Before it reports for duty, and while it is missed: it is started again."""
    member = world.make(started_by_hive=True)
    line = Line()
    assert (member.gist().state, member.gist().reason) == ("waiting", "backoff")
    member.attach(line)
    member.event(THINKING)
    member.detach(line)
    assert (member.gist().state, member.gist().reason) == ("waiting", "backoff")


async def test_a_harness_whose_line_is_lost_in_a_turn_is_not_shown_at_work(world: World) -> None:
    line = Line()
    world.member.attach(line)
    world.member.event(THINKING)
    assert world.shown() == ("thinking", None, 5)
    await world.clock.advance(60)
    world.member.detach(line)
    assert world.shown() == ("waiting", "operator", world.now())
    told = [frame.event for frame in world.bus.history()]
    assert isinstance(told[-1], TurnStateChanged), "readers of its stream are told as well"
    assert told[-1].state == "waiting"


async def test_one_that_does_not_come_back_is_lost_within_ten_seconds_and_once(world: World) -> None:
    line = Line()
    world.member.attach(line)
    world.member.detach(line)
    with anyio.fail_after(5):
        await world.clock.until_sleepers()
    await world.clock.advance(CRASH_SECONDS - 0.1)
    assert world.lost == 0
    await world.clock.advance(0.1)
    assert (world.lost, CRASH_SECONDS < 10) == (1, True)
    await world.clock.advance(600)
    assert world.lost == 1


async def test_one_whose_container_is_up_and_that_never_reports_is_lost(world: World) -> None:
    """Whatever keeps it from starting: nobody else would notice. One that does report is not."""
    world.member.expect()
    with anyio.fail_after(5):
        await world.clock.until_sleepers()
    await world.clock.advance(REPORT_SECONDS - 0.1)
    assert world.lost == 0
    await world.clock.advance(0.1)
    assert world.lost == 1
    world.member.expect()
    world.member.attach(Line())
    world.member.expect()
    await world.clock.advance(600)
    assert world.lost == 1


async def test_one_that_dials_again_in_time_is_not_lost_and_repeats_no_event(world: World) -> None:
    older, newer = Line(), Line()
    world.member.attach(older)
    online = encode_live(StatusChanged(status="online"))
    world.member.event(THINKING)
    world.member.event(online)
    world.member.detach(older)
    with anyio.fail_after(5):
        await world.clock.until_sleepers()
    world.member.attach(newer)
    world.member.detach(older)  # its end is heard late
    await world.clock.advance(60)
    assert (world.lost, world.member.attached) == (0, True)
    before = world.bus.current_seq
    world.member.event(online)
    assert world.bus.current_seq == before
    world.member.event(THINKING)
    assert (world.bus.current_seq, world.shown()[0]) == (before + 1, "thinking")


async def test_whoever_reports_for_duty_is_told_to_read_its_settings_anew(world: World) -> None:
    """It may have outlived the core that tried a config out on it and was killed before it could take that back."""
    for line in (Line(), Line()):
        world.member.attach(line)
        await anyio.wait_all_tasks_blocked()
        assert line.asked == [Reread(req=0)]
        world.member.detach(line)


async def test_what_it_could_not_send_is_told_to_every_reader(world: World) -> None:
    async with world.bus.subscribe() as frames:
        world.member.event(encode(Lagged(missed=3)))
        world.member.event(b'{"kind":"lagged","missed":-1}')
        world.member.event(THINKING)
        with anyio.fail_after(5):
            assert await anext(frames) == Missed(3)
            after = await anext(frames)
    assert isinstance(after, Frame)
    assert after.seq == 4


async def test_a_page_of_its_history_has_the_number_that_this_cores_readers_know(world: World) -> None:
    """The harness counts its own events from 1; a reader of the core's stream must not drop by that number."""
    world.member.attach(Line(EventPage(seq=4711, events=[])))
    world.member.event(THINKING)
    page = await world.member.handle(History(req=0))
    assert isinstance(page, EventPage)
    assert page.seq == 1


# --- in a hive ------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(environ: dict[str, str], home: Path) -> HiveConfig:
    """A hive whose agents have harnesses of their own."""
    (home / "hive.toml").write_text('[agents.alice]\nharness = "own"\n[agents.manager]\nharness = "own"\n')
    return load(environ, state_dir=home / "state", run_dir=home / "run")


async def test_the_loss_of_a_harness_is_told_as_a_crash_and_stopping_it_claims_no_more_than_is_known(
    own: HiveConfig, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhive.members.CRASH_SECONDS", 0.05)
    async with (
        Hive.open(config=own, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        await hive.lifecycle.spawn("alice")
        await hive.lifecycle.stop("alice")
        await operator.request(r.Model(name="alice", model="opus"))  # a line for her log
        await hive.lifecycle.start("alice")
        async with hive.bus.subscribe() as news:
            await _serve_for_a_moment(hive, operator)
            crash = await _news(news, lambda event: isinstance(event, Sent) and LOST in event.body)
            assert isinstance(crash, Sent)
            assert '"container_crash"' in crash.body
            assert "Z model: opus" in crash.body, "the news has the last lines of her log"
            await _news(news, _waits)
        killed = await operator.request(r.Kill(name="alice"))
        assert isinstance(killed, Ok)
        assert "not known" in (killed.note or "")


async def _serve_for_a_moment(hive: Hive, operator: RemoteHive) -> None:
    """A harness attaches, says that it thinks, and is gone as by `kill -9`."""
    attached = anyio.Event()

    async def answer(command: HarnessCommand) -> Reply:
        del command
        return Ok()

    harness = AttachedHarness(hive.paths.harness_socket(ALICE), answer, on_attached=attached.set)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, operator.events("alice") as frames:
            tasks.start_soon(harness.run)
            await attached.wait()
            harness.publish(THINKING)
            async for frame in frames:
                if frame.get("state") == "thinking":
                    break
            tasks.cancel_scope.cancel()


def _waits(event: AnyDashboardEvent) -> bool:
    """Alice runs again as far as it is known, and nobody serves her."""
    if not isinstance(event, ContainerStateChanged):
        return False
    view = event.container
    return (view.name, view.running, view.waiting_reason) == ("alice", True, "operator")


async def _news(
    news: Subscription[AnyDashboardEvent], wanted: Callable[[AnyDashboardEvent], bool]
) -> AnyDashboardEvent:
    with anyio.fail_after(10):
        async for item in news:
            if isinstance(item, Frame) and wanted(item.event):
                return item.event
    raise AssertionError("the stream has ended")
