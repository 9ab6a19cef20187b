"""Commands that follow: events, and login while it lasts. They lose no line, and end with Ctrl-C."""

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from anyio.abc import Process

from console import PROGRAM, Console
from desk import answers, desk, does
from hyperhive.protocol import events as e
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Handler


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


class Following:
    """A command under way, read line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._rest = b""

    async def lines(self, count: int) -> list[str]:
        """The next lines of its standard output."""
        assert self.process.stdout is not None
        with anyio.fail_after(20):
            while self._rest.count(b"\n") < count:
                self._rest += await self.process.stdout.receive()
        *found, self._rest = self._rest.split(b"\n", count)
        return [line.decode() for line in found]

    async def stop(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        with anyio.fail_after(20):
            return await self.process.wait()


async def follow(console: Console, *words: str) -> Following:
    argv = [str(PROGRAM), *words]
    return Following(await anyio.open_process(argv, env=console.environ(), stdin=subprocess.PIPE))


async def test_events_go_on_where_the_history_ends(console: Console, at: Path) -> None:
    """Subscribed first, then asked: what is in both is shown once."""

    async def stream(name: str) -> AsyncIterator[bytes]:
        assert name == "alice"
        yield encode(e.Resume(resume="new", id="x:4"))
        for seq in (5, 6, 7):
            yield encode(e.Note(text=f"live {seq}", seq=seq))
        await anyio.sleep_forever()

    history = p.EventPage(
        seq=6, events=[{"kind": "note", "text": "old"}, {"kind": "note", "text": "live 5 and 6"}]
    )
    async with desk(at, {r.Events: answers(history)}, stream):
        following = await follow(console, "events", "alice", "-f", "--json")
        shown = [json.loads(line) for line in await following.lines(4)]
        assert await following.stop() == 130
        await following.process.aclose()
    assert [frame.get("text", frame["kind"]) for frame in shown] == [
        "old",
        "live 5 and 6",
        "resume",
        "live 7",
    ]


async def test_the_hives_past_is_printed_and_goes_on_without_a_double(console: Console, at: Path) -> None:
    async def stream(name: str) -> AsyncIterator[bytes]:
        assert name == "hive"
        yield encode(e.Resume(resume="new", id="x:4"))
        for seq in (5, 6):
            yield encode(e.MessageState(id=seq, state="acked", seq=seq))
        await anyio.sleep_forever()

    events = [{"ts": 1, "kind": "message_state", "id": number, "state": "acked"} for number in (4, 5)]
    past = p.HivePast(seq=5, events=events, older="4.0")
    async with desk(at, {r.History: answers(past)}, stream):
        following = await follow(console, "events", "-f", "--json")
        shown = [json.loads(line) for line in await following.lines(4)]
        assert await following.stop() == 130
        await following.process.aclose()
        printed = await anyio.to_thread.run_sync(lambda: console.run("events"))
        refused = await anyio.to_thread.run_sync(lambda: console.run("events", "--grep", "x"))
    assert [frame.get("id") for frame in shown] == [4, 5, "x:4", 6]
    assert [line.split()[-3:] for line in printed.out.splitlines()] == [
        ["#4", "is", "done"],
        ["#5", "is", "done"],
    ]
    assert (refused.code, "one agent" in refused.err) == (2, True)


# --- one agent's own login ------------------------------------------------------------------------------------------


class LoginDesk:
    """A hive in which alice logs in by a URL and a code."""

    def __init__(self, end: e.StatusChanged) -> None:
        self._end = end
        self._coded = anyio.Event()
        self.codes: list[str] = []

    async def code(self, request: r.Request) -> p.Reply:
        assert isinstance(request, r.LoginCode)
        self.codes.append(request.code)
        self._coded.set()
        return p.Login(session=p.LoginSession(url="https://example.invalid/x", output="wait"))

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        assert name == "alice"
        yield encode(e.Resume(resume="new", id="x:1"))
        await self._coded.wait()
        yield b'{"kind":"stream","type":"system","status":null}'
        yield encode(self._end)
        await anyio.sleep_forever()

    def handlers(self) -> dict[type[r.Request], Handler]:
        started = p.Login(session=p.LoginSession(url="https://example.invalid/x", output="open it"))
        return {r.LoginStart: answers(started), r.LoginCode: does(self.code)}


async def test_an_agents_login_shows_the_url_takes_the_code_and_waits_until_it_lands(
    console: Console, at: Path
) -> None:
    hive = LoginDesk(e.StatusChanged(status="online"))
    async with desk(at, hive.handlers(), hive.stream):
        done = await anyio.to_thread.run_sync(lambda: console.run("login", "alice", stdin=" the-code#1\n"))
    assert done.code == 0, done.err
    assert "https://example.invalid/x" in done.err
    assert "alice is logged in" in done.out
    assert "the-code" not in done.out + done.err
    assert hive.codes == ["the-code#1"]


async def test_a_login_that_does_not_land_fails(console: Console, at: Path) -> None:
    hive = LoginDesk(e.StatusChanged(status="needs_login_idle"))
    async with desk(at, hive.handlers(), hive.stream):
        done = await anyio.to_thread.run_sync(lambda: console.run("login", "alice", "--json", stdin="x\n"))
    assert done.code == 1
    assert "did not work" in done.json["error"]
