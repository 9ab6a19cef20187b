"""What can be asked of an agent that does not run, and its stream, which outlives each of its harnesses."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import anyio
import pytest

from hyperhive.client import RemoteHive
from hyperhive.client.hive import Frame
from hyperhive.errors import Closed, Conflict, NotFound
from hyperhive.host import Hive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import EventPage, LogLines, StatsPage, TurnRows
from hyperhive.protocol.requests import Request

VERBS = [
    r.Turns(name="alice"), r.Events(name="alice"), r.Logs(name="alice"), r.Stats(name="alice"),
    r.Model(name="alice", model="opus"), r.Compact(name="alice"), r.NewSession(name="alice"), r.Cancel(name="alice"),
]  # fmt: skip


async def work(operator: RemoteHive, hive: Hive) -> None:
    """Alice has worked one message, and its row is written."""
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(20):
        async with operator.events("alice") as frames:
            await operator.broker.send("operator", "alice", "[[say good morning]]")
            await until(frames, "turn_end")
        await operator.lifecycle.stop("alice")
    assert not hive.lifecycle.view("alice").running


async def until(frames: AsyncIterator[Frame], kind: str) -> Frame:
    async for frame in frames:
        if frame["kind"] == kind:
            return frame
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: type(verb).__name__)
async def test_an_agent_that_is_not_there_is_not_found(operator: RemoteHive, verb: Request) -> None:
    with pytest.raises(NotFound):
        await operator.request(verb)


async def test_a_stopped_agents_log_turns_events_and_statistics_can_be_read(
    operator: RemoteHive, hive: Hive
) -> None:
    await work(operator, hive)
    log = await operator.request(r.Logs(name="alice"))
    assert isinstance(log, LogLines)
    assert any("ended well" in line for line in log.lines)
    stamps = [datetime.fromisoformat(line.split()[0]) for line in log.lines]
    assert stamps == sorted(stamps), "every line says when, in UTC"
    assert {stamp.utcoffset() for stamp in stamps} == {timedelta(0)}
    turns = await operator.request(r.Turns(name="alice"))
    assert isinstance(turns, TurnRows)
    assert [row.result_kind for row in turns.turns] == ["ok"]
    page = await operator.request(r.Events(name="alice", kind="turn_end"))
    assert isinstance(page, EventPage)
    assert [event["ok"] for event in page.events] == [True]
    stats = await operator.request(r.Stats(name="alice"))
    assert isinstance(stats, StatsPage)
    assert stats.stats
    for verb in (r.Cancel(name="alice"), r.NewSession(name="alice")):
        with pytest.raises(Conflict, match="hyperhive start alice"):
            await operator.request(verb)


async def test_the_model_of_a_stopped_agent_can_be_changed_and_counts_from_its_next_start(
    operator: RemoteHive, hive: Hive
) -> None:
    await work(operator, hive)
    await operator.request(r.Model(name="alice", model="opus"))
    assert hive.lifecycle.view("alice").model == "opus"
    log = await operator.request(r.Logs(name="alice"))
    assert isinstance(log, LogLines)
    assert "opus" in log.lines[-1]
    with anyio.fail_after(10):
        async with operator.events("alice") as frames:
            await operator.lifecycle.start("alice")
            changed = await until(frames, "model_changed")
    assert changed["model"] == "opus"
    assert hive.lifecycle.view("alice").model == "opus"


async def test_a_stream_goes_on_over_stop_start_and_restart_and_numbers_nothing_twice(
    operator: RemoteHive,
) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(30):
        async with operator.events("alice") as frames:
            seen: list[object] = []

            async def turn(text: str) -> None:
                await operator.broker.send("operator", "alice", f"[[say {text}]]")
                async for frame in frames:
                    seen.append(frame.get("seq"))
                    if frame["kind"] == "turn_end":
                        return

            await turn("one")
            await operator.lifecycle.restart("alice")
            await turn("two")
            await operator.lifecycle.stop("alice")
            await operator.lifecycle.start("alice")
            await turn("three")
    numbers = [number for number in seen if number is not None]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))  # type: ignore[call-overload, operator]


async def test_a_reader_that_comes_back_after_a_restart_misses_nothing(
    operator: RemoteHive,
) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(30):
        async with operator.events("alice") as frames:
            head = await anext(frames)
            epoch = str(head["id"]).partition(":")[0]
            await operator.broker.send("operator", "alice", "[[say one]]")
            last = (await until(frames, "turn_end"))["seq"]
        await operator.lifecycle.restart("alice")
        await operator.broker.send("operator", "alice", "[[say two]]")
        async with operator.events("alice", after=f"{epoch}:{last}") as frames:
            assert (await anext(frames))["resume"] == "ok"
            first = await anext(frames)
            await until(frames, "turn_end")
    assert isinstance(last, int)
    assert first["seq"] == last + 1


async def test_the_stream_of_an_agent_that_is_removed_ends_and_its_successors_goes_on_counting(
    operator: RemoteHive,
) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(20):
        async with operator.events("alice") as frames:
            await operator.request(r.Model(name="alice", model="opus"))
            last = (await until(frames, "model_changed"))["seq"]
            await operator.lifecycle.destroy("alice")
            with pytest.raises(Closed, match="ended the stream"):
                await until(frames, "no such kind")
        with pytest.raises(NotFound):
            async with operator.events("alice"):
                pass
        await operator.lifecycle.spawn("alice")
        async with operator.events("alice") as frames:
            await operator.request(r.Model(name="alice", model="haiku"))
            changed = await until(frames, "model_changed")
    assert isinstance(changed["seq"], int)
    assert isinstance(last, int)
    assert changed["seq"] > last
