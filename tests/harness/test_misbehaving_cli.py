"""A CLI that hangs, dies, floods or prints rubbish never leaves its agent shown as running, and leaves no process."""

import os
import signal

import anyio
import msgspec
import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.harness.runner import SHOWN_LINE_MAX, Timing
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.events import Note, Stream, TurnEnd
from hyperhive.protocol.types import ResultKind
from hyperhive.testing.turns import TurnBench, message
from turn_tools import Benches, frames, gone, notes, until

QUICK = Timing(stuck_seconds=0.5, result_grace=0.5, start_seconds=20, noise_bytes=512 * 1024)
PATIENT = Timing(stuck_seconds=20, result_grace=5, start_seconds=20)


async def one_turn(scripted: Benches, body: str, timing: Timing = QUICK) -> tuple[TurnBench, TurnResult]:
    bench = scripted.bench(timing=timing)
    runner = await scripted.runner(bench)
    with anyio.fail_after(20):
        result = await runner.run([message(1, body)], turn=1)
    assert not runner.running
    assert bench.states[-1] == "idle"
    assert bench.events[-1] == TurnEnd(ok=result.ok, note=result.note, turn=1)
    return bench, result


@pytest.mark.parametrize(
    ("body", "kind", "blame"),
    [
        ("[[hang]]", "stuck", True),
        ("[[stall]]", "stuck", True),
        ("[[say almost done]][[hang]]", "stuck", True),
        ("[[die]]", "crashed", True),
        ("[[exit 0]]", "crashed", True),
        ("[[exit 3]]", "crashed", True),
        ("[[flood-noise]]", "crashed", True),
        ("[[flood-system]]", "crashed", True),
        ("[[flood-stderr]]", "crashed", True),
        ("[[no-tools]]", "failed", False),
        ("[[not-connected]]", "failed", False),
        ("[[max-turns]]", "failed", True),
        ("[[too-long always]]", "prompt_too_long", True),
        ("[[api-401]]", "needs_login", False),
        ("[[api-429]]", "limited", False),
        ("[[api-500]]", "limited", False),
    ],
)
async def test_every_misbehaviour_ends_the_turn(
    scripted: Benches, body: str, kind: ResultKind, blame: bool
) -> None:
    bench, result = await one_turn(scripted, body)
    assert (result.kind, result.done, result.pending, result.blame) == (kind, (), (1,), blame)
    runner = await scripted.runner(bench)
    assert (await runner.run([message(2, "[[say well]]")])).done == (2,), "the agent goes on"


@pytest.mark.parametrize(
    "body",
    [
        "[[rubbish]]",
        "[[flood-frames 20000]]",
        "[[unasked]]",
        "[[open-tool 0.8]]",
        "[[slow 0.8]]",
        "[[too-long]]",
    ],
)
async def test_what_only_looks_wrong_does_no_harm(scripted: Benches, body: str) -> None:
    quick = body.startswith(("[[open-tool", "[[slow"))
    _, result = await one_turn(scripted, body, QUICK if quick else PATIENT)
    assert (result.kind, result.done) == ("ok", (1,))


async def test_a_line_too_long_to_show_is_a_note_and_counts_all_the_same(scripted: Benches) -> None:
    bench, result = await one_turn(scripted, f"[[say {'y' * SHOWN_LINE_MAX}]]", PATIENT)
    assert (result.kind, result.done) == ("ok", (1,))
    assert any(text.startswith("(a line of 26") for text in notes(bench))
    assert max(len(event.line) for event in bench.events if isinstance(event, Stream)) <= SHOWN_LINE_MAX


async def test_a_result_of_another_turn_acks_nothing(scripted: Benches) -> None:
    bench, result = await one_turn(scripted, "[[unasked]][[die]]")
    assert (result.done, result.pending) == ((), (1,))
    assert len([frame for frame in frames(bench) if frame["type"] == "result"]) == 1


async def test_a_cli_that_hangs_after_its_result_is_ended(scripted: Benches) -> None:
    bench = scripted.bench(timing=QUICK)
    runner = await scripted.runner(bench)
    result = await runner.run([message(1, "[[hang-after-result]]")])
    assert (result.kind, result.done) == ("ok", (1,)), "the turn itself ended well"
    assert bench.states[-1] == "idle"
    await until(lambda: not runner.warm)
    assert "the agent CLI does not answer any more: it is ended" in notes(bench)


async def test_a_turn_given_to_a_process_that_hangs_after_its_result_is_run_by_another(
    scripted: Benches,
) -> None:
    bench = scripted.bench(timing=Timing(stuck_seconds=30, result_grace=0.5))
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[hang-after-result]]")])).ok
    assert runner.warm
    result = await runner.run([message(2, "[[say hello]]")])
    assert result.done == (2,)


async def test_a_cli_that_dies_after_its_result_costs_nothing(scripted: Benches) -> None:
    bench = scripted.bench(timing=QUICK)
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[die-after-result]]")])).done == (1,)
    await until(lambda: not runner.warm)
    assert (await runner.run([message(2, "hello")])).done == (2,)


async def test_a_cli_that_never_answers_its_start_is_ended(scripted: Benches) -> None:
    script = scripted.directory / "claude"
    script.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do read line; done\n")
    _, result = await one_turn(scripted, "hello", Timing(start_seconds=0.5, result_grace=0.3))
    assert (result.kind, result.blame) == ("crashed", False)
    assert result.note == "the agent CLI did not answer after its start"


async def test_a_program_that_is_no_cli_crashes_the_turn_without_blame(scripted: Benches) -> None:
    script = scripted.directory / "claude"
    script.write_text("#!/bin/sh\necho 'something is wrong' >&2\nexit 7\n")
    bench, result = await one_turn(scripted, "hello")
    assert (result.kind, result.blame) == ("crashed", False)
    assert result.note == "exit code 7: something is wrong"
    assert "something is wrong" in notes(bench)


async def test_a_cli_that_is_gone_parks_the_agent(scripted: Benches) -> None:
    (scripted.directory / "claude").unlink()
    _, result = await one_turn(scripted, "hello")
    assert (result.kind, result.pending, result.blame) == ("failed", (1,), False)
    assert result.park is not None


async def test_a_flood_of_rubbish_is_shown_in_part_only(scripted: Benches) -> None:
    bench, _ = await one_turn(scripted, "[[flood-noise]]")
    assert len([event for event in bench.events if isinstance(event, Note)]) < 250
    assert "more of such output is not shown" in notes(bench)


async def test_a_line_without_end_is_not_kept(scripted: Benches) -> None:
    timing = Timing(stuck_seconds=30, result_grace=0.3, noise_bytes=512 * 1024)
    _, result = await one_turn(scripted, "[[flood-line]]", timing)
    assert (result.kind, result.note) == ("crashed", "the agent CLI printed rubbish without end")


async def test_nothing_that_a_tool_started_outlives_a_stuck_cli(scripted: Benches) -> None:
    bench, result = await one_turn(scripted, "[[once a]][[orphan]][[hang]]")
    assert result.kind == "stuck"
    said = next(str(frame["message"]) for frame in frames(bench) if "orphan pid" in str(frame.get("message")))
    pid = int(said.split("orphan pid ")[1].split("'")[0])
    assert gone(pid)


async def test_a_message_that_kills_the_cli_once_is_worked_the_second_time(scripted: Benches) -> None:
    bench = scripted.bench(timing=QUICK)
    runner = await scripted.runner(bench)
    first = await runner.run([message(1, "[[once a]][[die]][[say done]]")])
    assert (first.kind, first.pending) == ("crashed", (1,))
    second = await runner.run([message(1, "[[once a]][[die]][[say done]]", redelivered=True)])
    assert second.done == (1,)


async def test_a_cli_that_takes_no_interrupt_is_killed_and_the_turn_cancelled(scripted: Benches) -> None:
    bench = scripted.bench(timing=Timing(stuck_seconds=60, result_grace=0.3))
    runner = await scripted.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "[[say on it]][[hang]]")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: any("on it" in str(frame) for frame in frames(bench)))
        assert await runner.cancel()
    assert ended[0].kind == "cancelled"
    assert not runner.warm


async def test_a_hanging_process_in_a_tool_call_is_found_out(scripted: Benches) -> None:
    """The watchdog does not count a tool's time; but the CLI has to answer while it waits for the tool."""
    script = scripted.directory / "claude"
    script.write_text(script.read_text().replace("exec ", "HYPERHIVE_SCRIPTED='[[deaf-tool]]' exec "))
    _, result = await one_turn(scripted, "hello")
    assert (result.kind, result.blame) == ("stuck", True)


async def test_closing_the_runner_in_a_turn_counts_as_an_interruption(scripted: Benches) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "[[stall]]")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: any(frame.get("subtype") == "init" for frame in frames(bench)))
        pid = runner.pid
        await runner.aclose()
    assert (ended[0].kind, ended[0].interrupted, ended[0].blame) == ("failed", True, False)
    assert pid is not None
    assert gone(pid)


async def test_a_warm_process_that_is_killed_is_noticed(scripted: Benches) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[say hi]]")])).ok
    assert runner.pid is not None
    os.kill(runner.pid, signal.SIGKILL)
    await until(lambda: not runner.warm)
    assert any(note.startswith("the agent CLI ended by itself") for note in notes(bench))


async def test_a_process_that_goes_with_the_hive_is_not_said_to_have_ended_by_itself(
    scripted: Benches,
) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[say hi]]")])).ok
    await runner._engine.rest()  # as when the loop ends and takes every task with it
    assert not runner.warm
    assert notes(bench) == ["the agent CLI was ended with the hive: signal 9"]


async def test_a_turn_whose_process_goes_with_the_hive_blames_nobody(scripted: Benches) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "[[stall]]")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: any(frame.get("subtype") == "init" for frame in frames(bench)))
        await runner._engine.rest()
    assert (ended[0].kind, ended[0].interrupted, ended[0].blame) == ("failed", True, False)


@pytest.mark.parametrize("how", ["retire", "new session"])
async def test_a_process_that_the_hive_ends_leaves_no_note(scripted: Benches, how: str) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[say hi]]")])).ok
    await (runner.retire() if how == "retire" else runner.new_session())
    assert not runner.warm
    assert notes(bench) == []


@pytest.mark.parametrize(
    ("how", "kind", "interrupted"),
    [
        ("cancel", "cancelled", False),
        ("interrupt", "failed", True),
        ("close", "failed", True),
        ("cancel, interrupt", "cancelled", False),
        ("cancel, close", "cancelled", False),
        ("interrupt, cancel", "cancelled", False),
    ],
)
async def test_a_turn_called_off_before_its_process_is_ready_never_starts_one(
    scripted: Benches, monkeypatch: pytest.MonkeyPatch, how: str, kind: ResultKind, interrupted: bool
) -> None:
    bench = scripted.bench()
    go, asked = anyio.Event(), anyio.Event()

    async def find_late() -> AgentCli:
        asked.set()
        await go.wait()
        return bench.cli

    monkeypatch.setattr(bench, "find_cli", find_late)
    runner = await scripted.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "hello")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await asked.wait()
        for one in how.split(", "):
            if one == "cancel":
                assert await runner.cancel()
            elif one == "interrupt":
                assert await runner.interrupt("urgent")
            else:
                await runner.aclose()
        go.set()
    assert (ended[0].kind, ended[0].pending, ended[0].interrupted) == (kind, (1,), interrupted)
    assert not runner.warm
    assert frames(bench) == []


@pytest.mark.parametrize(("how", "kind"), [("cancel", "cancelled"), ("interrupt", "failed")])
async def test_a_turn_that_waits_for_a_compaction_can_be_called_off(
    scripted: Benches, how: str, kind: ResultKind
) -> None:
    script = scripted.directory / "claude"
    script.write_text(script.read_text().replace("exec ", "HYPERHIVE_SCRIPTED='[[stall-compaction]]' exec "))
    bench = scripted.bench(timing=PATIENT)
    runner = await scripted.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "hello")]))

    async with anyio.create_task_group() as group:
        group.start_soon(runner.compact)
        await until(lambda: any(frame.get("status") == "compacting" for frame in frames(bench)))
        group.start_soon(run)
        await until(lambda: runner.running)
        assert await (runner.cancel() if how == "cancel" else runner.interrupt("urgent"))
        await until(lambda: ended)
        assert runner.warm, "the compaction goes on"
        await runner.aclose()
    assert (ended[0].kind, ended[0].pending) == (kind, (1,))
    assert all(frame.get("subtype") != "init" for frame in frames(bench)), "it was never prompted"


async def test_an_untested_version_is_said_once(scripted: Benches) -> None:
    bench = scripted.bench()
    bench.cli = msgspec.structs.replace(bench.cli, warning="the agent CLI 9.9.9 is newer than the tested one")
    runner = await scripted.runner(bench)
    for number in (1, 2):
        assert (await runner.run([message(number, "[[say hi]]")])).ok
    assert notes(bench).count("the agent CLI 9.9.9 is newer than the tested one") == 1
