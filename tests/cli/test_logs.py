"""`hyperhive logs`: the hive's own file and an agent's past, narrowed, followed, in a pipe."""

import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from console import Console
from desk import answers, desk
from hyperhive.cli.logs import _appended
from hyperhive.protocol import events as e
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from up import Running


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


def log_line(number: int) -> str:
    return json.dumps(
        {"timestamp": "2026-01-01T00:00:00+00:00", "level": "info", "event": "counted", "number": number}
    )


def test_a_log_that_is_rotated_again_and_again_is_followed_without_end_and_without_a_hole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hive.log"
    path.write_text("first\n")
    with path.open() as file:
        lines = _appended(file, path)
        assert next(lines) == "first"
        for number in range(sys.getrecursionlimit() + 100):
            with path.open("a") as old:  # written after the last look, before the rotation
                old.write(f"old {number}\n")
            path.rename(tmp_path / "hive.log.1")
            path.write_text(f"new {number}\n")
            assert [next(lines), next(lines)] == [f"old {number}", f"new {number}"]
        lines.close()


def test_the_hives_log_is_followed_through_its_rotation(console: Console, tmp_path: Path) -> None:
    """Also when the hive is down: it is a file."""
    log = tmp_path / "state" / "log" / "hive.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(log_line(number) + "\n" for number in range(5)))
    with Running(console, "logs", "-f", "--lines", "2", "--state-dir", str(tmp_path / "state")) as command:
        command.until(lambda: "number=4" in command.out)
        assert "number=2" not in command.out
        with log.open("a") as file:
            file.write(log_line(5)[:20])
            file.flush()
            file.write(log_line(5)[20:] + "\n")
        command.until(lambda: "number=5" in command.out)
        log.rename(log.with_suffix(".log.1"))
        log.write_text(log_line(6) + "\n")
        command.until(lambda: "number=6" in command.out)
        command.signal(signal.SIGINT)
        assert command.end() == 130
    assert [line.split()[-1] for line in command.out.splitlines()] == [
        "number=3",
        "number=4",
        "number=5",
        "number=6",
    ]
    assert "info     counted number=3" in command.out


def test_a_log_that_is_not_there_is_not_found(console: Console, tmp_path: Path) -> None:
    assert console.run("logs", "--state-dir", str(tmp_path), "--json").code == 3


def test_the_hives_log_is_narrowed_by_text_level_and_time(console: Console, tmp_path: Path) -> None:
    log = tmp_path / "state" / "log" / "hive.log"
    log.parent.mkdir(parents=True)
    lines = [
        ("2026-01-01T00:00:00+00:00", "info", "agent_started"),
        ("2026-01-02T00:00:00+00:00", "warning", "agent_waits"),
        ("2026-01-03T00:00:00+00:00", "error", "agent_failed"),
    ]
    said = [json.dumps(dict(zip(("timestamp", "level", "event"), line, strict=True))) for line in lines]
    log.write_text("\n".join([*said, "a line of a traceback"]) + "\n")

    def shown(*words: str) -> list[str]:
        done = console.run("logs", "--state-dir", str(tmp_path / "state"), *words)
        assert done.code == 0, done.err
        return [line.split()[-1] for line in done.out.splitlines()]

    assert shown("--level", "warning") == ["agent_waits", "agent_failed"]
    assert shown("--grep", "AGENT_f") == ["agent_failed"]
    assert shown("--grep", "!agent_") == ["traceback"]
    assert shown("--grep", "/_(started|waits)$/") == ["agent_started", "agent_waits"]
    assert shown("--tail", "1", "--grep", "agent") == ["agent_failed"]
    assert shown("--since", "1767312000") == ["agent_waits", "agent_failed"]
    assert console.run("logs", "--grep", "/(/", "--state-dir", str(tmp_path)).code == 2
    assert console.run("logs", "--level", "loud", "--state-dir", str(tmp_path)).code == 2


async def test_a_followed_agent_is_waited_for_while_its_hive_is_away_and_nothing_is_doubled(
    console: Console, at: Path
) -> None:
    """What happened meanwhile comes from the history of the hive that is there then."""
    past = [{"kind": "note", "text": f"number {n}", "eid": n, "ts": 1000 + n} for n in range(1, 9)]

    async def live(name: str) -> AsyncIterator[bytes]:
        yield encode(e.Resume(resume="new", id="x:4"))
        if name == "alice":
            yield encode(e.Note(text="number 5", eid=5, seq=5))
        await anyio.sleep_forever()

    async def later(name: str) -> AsyncIterator[bytes]:
        del name
        yield encode(e.Resume(resume="gap", id="y:1"))
        await anyio.sleep_forever()

    def handlers(upto: int) -> dict[type[r.Request], object]:
        page = p.EventPage(seq=4, events=past[:upto])
        return {r.Events: answers(page)}

    command = Running(console, "logs", "alice", "-f", "--tail", "2", "--grep", "!number 6")

    def until(text: str) -> None:
        command.until(lambda: text in command.out + command.err)

    async with desk(at, handlers(4), live):  # type: ignore[arg-type]
        await anyio.to_thread.run_sync(command.__enter__)
        try:
            await anyio.to_thread.run_sync(until, "number 5")
        except BaseException:
            command.__exit__()
            raise
    try:
        await anyio.to_thread.run_sync(until, "waiting for it")
        async with desk(at, handlers(8), later):  # type: ignore[arg-type]
            await anyio.to_thread.run_sync(until, "number 8")
            command.signal(signal.SIGINT)
            assert await anyio.to_thread.run_sync(command.end) == 130
    finally:
        await anyio.to_thread.run_sync(command.__exit__)
    assert [line.split()[-1] for line in command.out.splitlines()] == ["3", "4", "5", "7", "8"]


async def test_an_agents_log_is_narrowed_by_level(console: Console, at: Path) -> None:
    events = [
        {"kind": "turn_start", "from": "operator", "body": "hi", "unread": 0, "eid": 1, "ts": 1},
        {"kind": "note", "text": "something is odd", "eid": 2, "ts": 2},
        {"kind": "turn_end", "ok": False, "note": "crashed", "eid": 3, "ts": 3},
    ]

    async def quiet(name: str) -> AsyncIterator[bytes]:
        del name
        yield encode(e.Resume(resume="new", id="x:4"))
        await anyio.sleep_forever()

    async with desk(at, {r.Events: answers(p.EventPage(seq=1, events=events))}, quiet):
        run = anyio.to_thread.run_sync
        warnings = await run(lambda: console.run("logs", "alice", "--level", "warning"))
        errors = await run(lambda: console.run("logs", "alice", "--level", "error", "--json"))
    assert [line.split()[-1] for line in warnings.out.splitlines()] == ["odd", "crashed"]
    assert json.loads(errors.out)["title"] == "crashed"
