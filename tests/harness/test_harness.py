"""Claims about one agent's harness as a whole, on the scripted CLI: what is shown, commanded, kept and left behind."""

import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from benches import LIMIT, Bench, Watch, ask, bench
from hyperhive.accounts import Secret
from hyperhive.agent_cli import AgentCli
from hyperhive.config import AgentConfig
from hyperhive.errors import BadRequest, Closed, Conflict, NotFound
from hyperhive.eventlog import EventLogs
from hyperhive.harness import Harness
from hyperhive.harness.display import Display
from hyperhive.harness.harness import CLI_MISSING_SECONDS, HarnessSettings
from hyperhive.harness.slots import Slots
from hyperhive.names import parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol.events import (
    ModelChanged,
    Note,
    StatusChanged,
    Stream,
    TokenUsageChanged,
    TurnEnd,
    TurnStart,
    TurnStateChanged,
)
from hyperhive.protocol.replies import AgentSnapshot, EventPage, StatsPage, TurnRows
from hyperhive.testing.clock import FakeClock
from scripted_login import SCRIPTED_LOGIN

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def hive(tmp_path: Path, scripted_cli: AgentCli) -> AsyncIterator[Bench]:
    """A bench whose agents run the scripted CLI."""
    async with bench(tmp_path, environ={"HYPERHIVE_CLAUDE": str(scripted_cli.path)}, agents=2) as made:
        yield made


async def settled(watch: Watch) -> None:
    """Wait until the agent is idle again."""
    await watch.state("idle")


async def snapshot(harness: Harness) -> AgentSnapshot:
    reply = await ask(harness, line.Snapshot)
    assert isinstance(reply, AgentSnapshot)
    return reply


# --- a turn, as it is shown and kept --------------------------------------------------------------------------------


async def test_a_turn_is_shown_from_its_start_to_its_end_with_its_number(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await settled(watch)
        assert await hive.acked(message)
        (start,), (end,) = watch.of(TurnStart), watch.of(TurnEnd)
        assert (start.sender, start.body, start.unread, end.ok) == ("operator", "[[say hello]]", 0, True)
        states = [event.state for event in watch.of(TurnStateChanged)]
        assert states == ["thinking", "idle"], "transitions only"
        assert {event.turn for event in watch.events if isinstance(event, TurnStart | Stream | TurnEnd)} == {
            1
        }
        eids = [event.eid or 0 for event in watch.events]
        assert eids == sorted(eids)
        assert 0 not in eids
        assert watch.of(TokenUsageChanged)


async def test_the_history_is_what_the_stream_was_and_outlives_the_harness(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("[[say remember me]]")
        await settled(watch)
        page = await ask(alice, line.History)
        assert isinstance(page, EventPage)
        assert [event["eid"] for event in page.events] == [event.eid for event in watch.events]
        assert page.seq == alice.bus.current_seq
    async with hive.running(hive.harness()) as alice:
        page = await ask(alice, line.History, kind="turn_end")
        assert isinstance(page, EventPage)
        assert [(event["kind"], event["turn"], event["ok"]) for event in page.events] == [
            ("turn_end", 1, True)
        ]
        found = await ask(alice, line.History, q="remember me", limit=1)
        assert isinstance(found, EventPage)
        assert len(found.events) == 1


async def test_every_turn_leaves_a_row_and_the_badges_come_back_after_a_restart(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send('[[call send {"to": "operator", "body": "hi"}]]')
        await settled(watch)
        await hive.send("[[once a]][[die]][[say again]]")
        await watch.state("waiting", "backoff")
        shown = await snapshot(alice)
    rows = await ask(hive.harness(), line.TurnHistory)
    assert isinstance(rows, TurnRows)
    crashed, good = rows.turns
    assert (good.result_kind, good.wake_from, good.tool_call_count) == ("ok", "operator", 1)
    assert "send" in good.tool_call_breakdown_json
    assert crashed.result_kind == "crashed"
    stats = await ask(hive.harness(), line.LineStats)
    assert isinstance(stats, StatsPage)
    assert stats.stats["results"] == {"ok": 1, "crashed": 1}
    async with hive.running(hive.harness()) as alice:
        await alice.started()
        again = await snapshot(alice)
        assert again.cost_usage is not None
        assert (again.model, again.status) == (shown.model, "online")


async def test_turn_numbers_go_on_after_a_restart(hive: Bench) -> None:
    for expected in (1, 2):
        async with hive.running(hive.harness()) as alice:
            watch = Watch(alice)
            await hive.send("[[say hello]]")
            start: Any = await watch.until(lambda event: isinstance(event, TurnStart))
            assert start.turn == expected
            await settled(watch)


async def test_lines_that_come_too_fast_are_shown_but_not_kept_and_one_note_says_so(tmp_path: Path) -> None:
    logs, clock = EventLogs(), FakeClock()
    display = Display(tmp_path / "events.sqlite", logs, clock, buffer=32, model="haiku")
    await display.open()
    line_ = b'{"type":"stream_event","text":"%s"}' % (b"x" * 8000)
    shown = 5000
    for _ in range(shown):
        display.emit(Stream(line=line_))
    assert display.bus.current_seq == shown + 1, "each of them, and the note"
    display.emit(TurnEnd(ok=True, note=None))
    page = await display.history(before=None, limit=2000, kind=None, q=None)
    assert [event["kind"] for event in page.events][-2:] == ["note", "turn_end"]
    assert page.events[-1]["eid"] < shown
    notes = await display.history(before=None, limit=2000, kind="note", q=None)
    assert ["missing from the history" in event["text"] for event in notes.events] == [True]
    await display.close()
    await logs.aclose()


async def test_without_a_writable_directory_the_agent_works_on_without_history(hive: Bench) -> None:
    blocked = hive.paths.state_dir / "blocked"
    blocked.write_text("a file where the directory should be")
    async with hive.running(hive.harness(events_db=blocked / "events.sqlite")) as alice:
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await settled(watch)
        assert await hive.acked(message)
        page = await ask(alice, line.History)
        assert isinstance(page, EventPage)
        assert page.events == []
        assert watch.of(TurnEnd)[0].eid is None


async def test_ten_agents_share_slots_and_each_gets_its_own_mail(hive: Bench) -> None:
    async with hive.running(hive.harness("alice")) as alice, hive.running(hive.harness("bob")) as bob:
        watches = [Watch(alice), Watch(bob)]
        first, second = await hive.send("[[say a]]", "alice"), await hive.send("[[say b]]", "bob")
        for watch in watches:
            await settled(watch)
        assert [one.of(TurnStart)[0].body for one in watches] == ["[[say a]]", "[[say b]]"]
        assert await hive.acked(first)
        assert await hive.acked(second)


# --- more urgent mail, on a real turn -------------------------------------------------------------------------------


async def test_soon_mail_reaches_a_turn_that_is_only_starting(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        first = await hive.send("[[open-tool 0.5]]")
        await watch.until(lambda event: isinstance(event, TurnStart))
        soon = await hive.send("[[say also this]]", urgency="soon")
        await settled(watch)
        assert await hive.acked(first)
        assert await hive.acked(soon)
        assert len(watch.of(TurnStart)) == 1, "one turn for both"


async def test_interrupt_mail_runs_first_and_the_interrupted_turn_knows_why_it_comes_again(
    hive: Bench,
) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        slow = await hive.send("[[once x]][[slow 20]][[say done]]")
        await watch.until(lambda event: isinstance(event, Stream) and b"step" in event.line)
        stop = await hive.send("[[say stopping]]", urgency="interrupt")
        await settled(watch)
        starts = watch.of(TurnStart)
        assert [start.body for start in starts[1:]] == [
            "[[say stopping]]",
            "[[once x]][[slow 20]][[say done]]",
        ]
        assert await hive.acked(slow)
        assert await hive.acked(stop)
        assert await hive.broker.dead() == []


async def test_a_queued_turn_is_cancelled_and_its_message_is_a_dead_letter(hive: Bench) -> None:
    hive.slots = Slots(max_turns=1, max_warm=8, idle_seconds=600, clock=hive.clock)
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        async with hive.slots.turn(hive.harness("bob").runner, lambda: None):
            message = await hive.send("[[say never]]")
            await watch.state("queued")
            await ask(alice, line.LineCancel)
            await settled(watch)
            (dead,) = await hive.broker.dead()
            assert (dead.id, dead.reason) == (message, "cancelled")
            assert hive.slots.queued == 0
            assert watch.of(TurnStart) == []
            with pytest.raises(Conflict):
                await ask(alice, line.LineCancel)
    rows = await ask(hive.harness(), line.TurnHistory)
    assert isinstance(rows, TurnRows)
    assert [row.result_kind for row in rows.turns] == ["cancelled"]


# --- commands -------------------------------------------------------------------------------------------------------


async def test_cancel_ends_the_running_turn_and_its_message_is_a_dead_letter(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        with pytest.raises(Conflict):
            await ask(alice, line.LineCancel)
        message = await hive.send("[[slow 30]]")
        await watch.until(lambda event: isinstance(event, Stream) and b"step" in event.line)
        await ask(alice, line.LineCancel)
        await settled(watch)
        (dead,) = await hive.broker.dead()
        assert (dead.id, dead.reason) == (message, "cancelled")
        assert any("cancel" in note.text for note in watch.of(Note))
        assert "waiting" not in {event.state for event in watch.of(TurnStateChanged)}


async def test_compact_is_refused_in_a_turn_and_shown_outside_of_one(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("[[open-tool 0.3]]")
        await watch.until(lambda event: isinstance(event, TurnStart))
        with pytest.raises(Conflict):
            await ask(alice, line.LineCompact)
        await settled(watch)
        await ask(alice, line.LineCompact)
        await watch.state("compacting")
        await settled(watch)
        assert any("compacting" in note.text for note in watch.of(Note))


async def test_a_model_is_kept_over_restarts_goes_before_the_config_and_is_announced(hive: Bench) -> None:
    hive.config = AgentConfig(model="sonnet")
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await alice.started()
        assert (await snapshot(alice)).model == "sonnet"
        await ask(alice, line.LineModel, model="opus")
        changed: Any = await watch.until(lambda event: isinstance(event, ModelChanged))
        assert changed.model == "opus"
        await hive.send("[[say hello]]")
        await settled(watch)
    async with hive.running(hive.harness()) as alice:
        await alice.started()
        assert (await snapshot(alice)).model == "opus"
    (hive.paths.agent_harness(parse_resident("alice")) / "hyperhive-model").unlink()
    hive.config = AgentConfig()
    async with hive.running(hive.harness()) as alice:
        await alice.started()
        assert (await snapshot(alice)).model == "haiku"


async def test_a_model_that_cannot_be_kept_warns_and_holds(hive: Bench) -> None:
    async with hive.running(hive.harness(model_file=Path("/proc/none/model"))) as alice:
        reply: Any = await ask(alice, line.LineModel, model="opus")
        assert "could not be written" in reply.note
        assert (await snapshot(alice)).model == "opus"


async def test_a_changed_config_is_taken_at_the_next_turn(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        await alice.started()
        hive.config = AgentConfig(model="sonnet")
        alice.changed()
        assert (await snapshot(alice)).model == "sonnet"


async def test_a_new_session_is_another_one(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("[[say one]]")
        await settled(watch)
        before = alice.runner.session_id
        await ask(alice, line.LineNewSession)
        await hive.send("[[say two]]")
        await settled(watch)
        assert alice.runner.session_id != before


async def test_a_command_that_no_harness_knows_is_refused(hive: Bench) -> None:
    with pytest.raises(BadRequest):
        await hive.harness().handle(line.HarnessCommand(req=1))


# --- waiting, login, ending -----------------------------------------------------------------------------------------


async def test_a_refused_key_is_shown_and_a_new_one_brings_the_agent_back(hive: Bench) -> None:
    await hive.accounts.set("default", "key", Secret("old"))
    hive.config = AgentConfig(env={"HYPERHIVE_SCRIPTED": "[[api-401]]"})
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await watch.state("waiting", "login")
        assert (await snapshot(alice)).status == "needs_login_idle"
        assert not await hive.acked(message)
        with pytest.raises(Conflict, match="account default"):
            await ask(alice, line.LineLoginStart)
        hive.config = AgentConfig()
        await hive.accounts.set("default", "key", Secret("new"))
        await settled(watch)
        assert await hive.acked(message)
        assert [event.status for event in watch.of(StatusChanged)] == ["needs_login_idle", "online"]
        assert await hive.broker.dead() == []


async def test_storing_an_account_brings_back_an_agent_that_had_none(hive: Bench) -> None:
    hive.config = AgentConfig(env={"HYPERHIVE_SCRIPTED": "[[api-401]]"})
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await watch.state("waiting", "login")
        hive.config = AgentConfig()
        await hive.accounts.set("default", "key", Secret("new"))
        await settled(watch)
        assert await hive.acked(message)


async def test_a_code_without_a_login_is_refused(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        for command in (line.LineLoginCode(req=1, code="x"), line.LineLoginCancel(req=1)):
            with pytest.raises(NotFound):
                await alice.handle(command)


LOGGING_IN = """#!/bin/sh
# A CLI whose own login is scripted: no turn goes well before it has landed.
if [ "$1" = auth ]; then exec {python} {login} "$@"; fi
[ -e "$CLAUDE_CONFIG_DIR/.credentials.json" ] || export HYPERHIVE_SCRIPTED="[[api-401]]"
exec {scripted} "$@"
"""


async def test_a_login_that_lands_brings_its_agent_back_and_the_code_is_nowhere(
    tmp_path: Path, scripted_cli: AgentCli
) -> None:
    login = tmp_path / "login.py"
    login.write_text(SCRIPTED_LOGIN)
    cli = tmp_path / "claude-that-logs-in"
    cli.write_text(LOGGING_IN.format(python=sys.executable, login=login, scripted=scripted_cli.path))
    cli.chmod(0o755)
    async with (
        bench(tmp_path, environ={"HYPERHIVE_CLAUDE": str(cli)}) as hive,
        hive.running(hive.harness()) as alice,
    ):
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await watch.state("waiting", "login")
        reply: Any = await ask(alice, line.LineLoginStart)
        assert reply.session.url.startswith("https://login.example/")
        await ask(alice, line.LineLoginCode, code="good#code")
        await settled(watch)
        assert await hive.acked(message)
        statuses = [event.status for event in watch.of(StatusChanged)]
        assert statuses == ["needs_login_idle", "needs_login_in_progress", "online"]
        assert (await snapshot(alice)).session is not None
        page = await ask(alice, line.History)
        assert isinstance(page, EventPage)
        assert "good#code" not in str(page.events)


async def test_a_key_is_in_no_event_and_no_file_but_its_own(hive: Bench) -> None:
    await hive.accounts.set("default", "key", Secret("sk-ant-canary-key"))
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("[[say hello]]")
        await settled(watch)
    found = await anyio.to_thread.run_sync(holding, hive.paths.state_dir, b"canary-key")
    assert [path.name for path in found] == ["default"]


def holding(directory: Path, text: bytes) -> list[Path]:
    """The files below a directory that hold this text."""
    return [path for path in directory.rglob("*") if path.is_file() and text in path.read_bytes()]


async def test_an_agent_without_a_cli_says_so_and_works_once_there_is_one(
    tmp_path: Path, scripted_cli: AgentCli
) -> None:
    clock, place = FakeClock(), tmp_path / "installed-later"
    async with (
        bench(tmp_path, clock=clock, environ={"HYPERHIVE_CLAUDE": str(place)}) as hive,
        hive.running(hive.harness()) as alice,
    ):
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await watch.state("waiting", "operator")
        assert "--install-cli" in str(alice.last_error)
        place.symlink_to(scripted_cli.path)
        with anyio.fail_after(LIMIT):
            await clock.until_sleepers()
        await clock.advance(CLI_MISSING_SECONDS)
        await settled(watch)
        assert await hive.acked(message)


async def test_a_harness_ends_with_its_core_and_says_why(hive: Bench) -> None:
    alice = hive.harness()
    hive.cores["alice"].fault = lambda _: Closed("the hive is closed")
    with pytest.raises(Closed):
        await alice.run()
    with anyio.fail_after(LIMIT):
        await alice.ended()


async def test_draining_ends_with_the_turn_and_leaves_no_process(hive: Bench) -> None:
    alice = hive.harness()
    async with anyio.create_task_group() as group:
        group.start_soon(alice.run)
        watch = Watch(alice)
        message = await hive.send("[[open-tool 0.3]][[say done]]")
        await watch.until(lambda event: isinstance(event, TurnStart))
        with anyio.fail_after(LIMIT):
            await ask(alice, line.Drain)
        assert await hive.acked(message)
        assert not alice.runner.warm


async def test_a_turn_that_is_ended_with_its_harness_comes_again_in_the_next_life(hive: Bench) -> None:
    alice = hive.harness()
    async with anyio.create_task_group() as group:
        group.start_soon(alice.run)
        watch = Watch(alice)
        message = await hive.send("[[once a]][[slow 30]][[say done]]")
        await watch.until(lambda event: isinstance(event, Stream) and b"step" in event.line)
        group.cancel_scope.cancel()
    assert not await hive.acked(message)
    assert not alice.runner.warm
    async with hive.running(hive.harness()) as alice:
        with anyio.fail_after(LIMIT):
            while not await hive.acked(message):
                await checkpoint()
    assert await hive.broker.dead() == []


async def test_a_stuck_turn_is_never_shown_as_running_for_ever(hive: Bench) -> None:
    hive.settings = HarnessSettings(stuck_seconds=0.5, result_grace=0.3, backoff_seconds=0.05)
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("[[once a]][[hang]][[say done]]")
        await settled(watch)
        assert await hive.acked(message)


async def test_an_idle_agent_costs_a_task_and_little_memory(hive: Bench) -> None:
    count = 30
    tracemalloc.start()
    try:
        async with anyio.create_task_group() as group:
            before, tasks = tracemalloc.get_traced_memory()[0], len(anyio.get_running_tasks())
            agents = [hive.harness() for _ in range(count)]
            for agent in agents:
                group.start_soon(agent.run)
            for agent in agents:
                await agent.started()
            with anyio.fail_after(
                20
            ):  # one task each, one timer for all; what a start tells the core takes a moment
                while len(anyio.get_running_tasks()) - tasks > count + 1:
                    await anyio.wait_all_tasks_blocked()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
            assert each < 500_000
            assert not any(agent.runner.warm for agent in agents)
            group.cancel_scope.cancel()
    finally:
        tracemalloc.stop()


async def test_events_are_swept_after_a_week_and_turn_rows_after_ninety_days(
    tmp_path: Path, scripted_cli: AgentCli
) -> None:
    clock = FakeClock()
    async with bench(tmp_path, clock=clock, environ={"HYPERHIVE_CLAUDE": str(scripted_cli.path)}) as hive:
        hive.settings = HarnessSettings(stuck_seconds=1e9, result_grace=1e9)
        async with hive.running(hive.harness()) as alice:
            watch = Watch(alice)
            await hive.send("[[say hello]]")
            await settled(watch)
            for days, events, rows in ((6, True, True), (2, False, True), (83, False, False)):
                clock.jump(days * 86400)
                await alice.sweep()
                page: Any = await ask(alice, line.History)
                turns: Any = await ask(alice, line.TurnHistory)
                assert (bool(page.events), bool(turns.turns)) == (events, rows)
