"""`hyperhive up` as the operator runs it: a real process in a directory of its own, with an environment of its own.

`HivePlace` is the directory and the environment, `HiveProcess` one life of the hive in it. Ready means that the hive
said so. What it prints (`--json`: every frame of the hive's stream) is kept, and `until` waits on it. Mail is read from
the database by a reader of our own, so that it can be looked at while no hive runs. No wait is without end, and one
that was in vain says what it was for.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import Process

import hyperhive
from children import MARK
from hyperhive.client import RemoteHive
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.nspawn_lodging import CLI as IN_A_CONTAINER
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Reply, TurnRows
from hyperhive.protocol.types import TurnRow
from parts import CLEAN_ENV
from processes import Found, alive, belonging_to, descendants, gone, holding, output_of
from waiting import within

Json = dict[str, Any]

START_SECONDS = 60.0
END_SECONDS = 20.0
PATIENCE_SECONDS = 45.0
ANSWER_SECONDS = 100.0
"""Of one request, the longest of which builds and starts a container, on a busy machine."""
DATABASE_SECONDS = 20.0
"""How long another's work on the database is waited for: a hive that comes back from a kill mends it first."""
LOOK_AGAIN_SECONDS = 0.05
"""`until` looks again after this time at the latest, whatever the hive prints."""

DEFAULT_TOML = """
backoff_seconds = 0.2
backoff_max_seconds = 1.0
"""


@dataclass(frozen=True)
class Mail:
    """One row of the table of messages."""

    id: int
    sender: str
    recipient: str
    body: str
    delivered: bool
    acked: bool
    attempt: int
    tries: int
    parked: str | None

    @property
    def way(self) -> tuple[str, str, str]:
        return (self.sender, self.recipient, self.body)


class HivePlace:
    """A directory with a short path (sockets lie in it), and the environment of the hive's processes.

    Args:
        claude: the agent CLI.
        api_url: where the stand-in of the Messages API listens.
        toml: `hive.toml`.
        environ: over the environment that is made here.
    """

    def __init__(
        self,
        claude: Path,
        api_url: str | None = None,
        *,
        runtime: str = "bwrap",
        toml: str = DEFAULT_TOML,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp"))
        self.state = self.root / "s"
        self.run = self.root / "r"
        self.errors = self.root / "stderr"
        home = self.root / "home"
        home.mkdir()
        config = self.root / "hive.toml"
        config.write_text(toml)
        self.environ = {
            **CLEAN_ENV,
            "HOME": str(home),
            "HYPERHIVE_CONFIG": str(config),
            "HYPERHIVE_STATE_DIR": str(self.state),
            "HYPERHIVE_RUN_DIR": str(self.run),
            "HYPERHIVE_RUNTIME": runtime,
            "HIVE_DASHBOARD_PORT": "0",  # hives of several tests run at the same time
            "HYPERHIVE_CLAUDE": str(claude),
            "ANTHROPIC_API_KEY": "dummy-key-for-tests",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "PYTHONPATH": str(Path(hyperhive.__file__).parents[1]),  # the hive that the test imports
            MARK: os.environ.get(MARK, "none"),
            **({} if api_url is None else {"ANTHROPIC_BASE_URL": api_url}),
            **(environ or {}),
        }
        self._marks = [str(self.root), *([] if api_url is None else [f"ANTHROPIC_BASE_URL={api_url}"])]

    def processes(self) -> list[Found]:
        """Whatever runs in this place."""
        return belonging_to(self._marks)

    def clis(self) -> dict[int, Found]:
        """The agent CLIs that run here, by pid."""
        named = {os.path.realpath(self.environ["HYPERHIVE_CLAUDE"]), IN_A_CONTAINER}
        return {
            one.pid: one for one in self.processes() if one.argv[0] in named and "stream-json" in one.argv
        }

    def harnesses(self) -> list[int]:
        """The pids of the harnesses that live in containers here."""
        return [one.pid for one in self.processes() if "serve" in one.argv and "-P" in one.argv]

    def end_containers(self) -> None:
        """Those that outlive their hive, as nobody else does."""
        marks = Marks(self.state.resolve() / "containers")
        assert wrapper.kill_marked(marks.any, wrapper.ONE_HIVE) == []

    def cli_of(self, agent: str) -> int:
        """The pid of this agent's CLI: in its box it looks like any other, but its mounts come from the agent's own."""
        own = f"/agents/{agent}/state "
        return next(pid for pid in self.clis() if own in Path(f"/proc/{pid}/mountinfo").read_text())

    def mail(self) -> list[Mail]:
        """Every message but the system's own, in the order in which they were sent."""
        columns = "id, sender, recipient, body, delivered_at, acked_at, attempt, tries, parked"
        with closing(self._database()) as db:
            rows = db.execute(
                f"SELECT {columns} FROM messages WHERE sender <> 'system' ORDER BY id"
            ).fetchall()
        return [
            Mail(
                id=row[0],
                sender=row[1],
                recipient=row[2],
                body=row[3],
                delivered=row[4] is not None,
                acked=row[5] is not None,
                attempt=row[6],
                tries=row[7],
                parked=row[8],
            )
            for row in rows
        ]

    def told(self, event: str) -> list[str]:
        """The bodies of what the hive itself told of such an event."""
        with closing(self._database()) as db:
            rows = db.execute("SELECT body FROM messages WHERE sender = 'system' ORDER BY id").fetchall()
        return [row[0] for row in rows if json.loads(row[0]).get("event") == event]

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.state}/hive.sqlite?mode=ro", uri=True, timeout=DATABASE_SECONDS)

    def integrity(self) -> str:
        """What SQLite says of the file. `ok`, or what is wrong."""
        with closing(sqlite3.connect(self.state / "hive.sqlite", timeout=DATABASE_SECONDS)) as db:
            return str(db.execute("PRAGMA integrity_check").fetchone()[0])

    def logged_errors(self) -> list[str]:
        """What its hives logged as errors, and tracebacks."""
        lines = self.errors.read_text(errors="replace").splitlines() if self.errors.exists() else []
        return [line for line in lines if '"level":"error"' in line or "Traceback" in line]

    async def nothing_left(self, seconds: float = END_SECONDS) -> None:
        """Returns when no process of this place lives; fails where one stays."""
        left: list[Found] = []
        with within(seconds, lambda: "processes that are left over:\n" + "\n".join(map(str, left))):
            while left := self.processes():
                await gone(one.pid for one in left)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass
class HiveProcess:
    """One life of a hive: enter it to start it; leaving it ends it, by signals where it still runs."""

    place: HivePlace
    command: tuple[str, ...] = ("up", "--json")
    says_ready: bool = True
    frames: list[Json] = field(default_factory=list)

    _process: Process | None = None
    _reader: asyncio.Task[None] | None = None
    _output: str = ""
    _news: anyio.Event = field(default_factory=anyio.Event)
    _ready: bool = False

    async def __aenter__(self) -> Self:
        try:
            with self.place.errors.open("ab") as errors:
                self._process = await anyio.open_process(
                    [sys.executable, "-m", "hyperhive.cli", *self.command],
                    stdin=subprocess.DEVNULL,
                    stderr=errors,
                    env=self.place.environ,
                    cwd=self.place.root,
                    start_new_session=True,
                )
            self._output = output_of(self.pid)
            # A plain task: lives of a hive may overlap without being nested.
            self._reader = asyncio.create_task(self._read())
            if self.says_ready:
                with within(START_SECONDS, lambda: f"the hive is not ready:\n{self.last_words()}"):
                    await self._said(lambda: self._ready)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                if self._process.returncode is None:
                    await self._end()
                if self._reader is not None:
                    with within(END_SECONDS, self._who_holds_its_output):
                        await asyncio.wait([self._reader])
                    self._reader.result()
            finally:
                if self._reader is not None:
                    self._reader.cancel()
                with within(END_SECONDS, lambda: f"process {self.pid} is still there"):
                    await self._process.aclose()

    # --- its life ---------------------------------------------------------------------------------------------------

    @property
    def process(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        """`kill -9` of this one process; returns when neither it nor what it had started lives."""
        below = descendants(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        with within(END_SECONDS, lambda: f"{self.pid} or what it had started lives on: {alive(below)}"):
            await self.process.wait()
            await gone(below)

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        with within(END_SECONDS, lambda: f"it does not end by SIGTERM:\n{self.last_words()}"):
            await self.process.wait()
        assert self.process.returncode is not None
        return self.process.returncode

    async def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with anyio.move_on_after(END_SECONDS / 2), suppress(ProcessLookupError):
                self.process.send_signal(number)
                await self.process.wait()
                return

    def _who_holds_its_output(self) -> str:
        """Its output ends when everybody who has it has closed it."""
        return f"process {self.pid} has ended, and its output has not: {holding(self._output)}"

    # --- what it says -----------------------------------------------------------------------------------------------

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Returns when `true()` holds; looks whenever the hive has said something."""
        with anyio.move_on_after(seconds):
            while not true():
                with anyio.move_on_after(LOOK_AGAIN_SECONDS):
                    await self._news.wait()
            return
        if not true():  # the looks themselves take time on a busy machine
            raise AssertionError(f"waited {seconds} s in vain; the hive's last words:\n{self.last_words()}")

    async def nth_frame(self, n: int) -> None:
        """Returns when it has said `n` more things."""
        goal = len(self.frames) + n
        await self._said(lambda: len(self.frames) >= goal)

    def last_words(self) -> str:
        """For the report of a failure."""
        frames = "\n".join(json.dumps(frame)[:300] for frame in self.frames[-15:])
        return f"{frames}\n{self.place.errors.read_text(errors='replace')[-3000:]}"

    async def _said(self, true: Callable[[], bool]) -> None:
        while not true():
            if self.process.returncode is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.last_words()}")
            await self._news.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        try:
            async for chunk in self.process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        await self.process.wait()
        self._tell()

    def _take(self, line: bytes) -> None:
        try:
            frame: Json = json.loads(line)
        except ValueError:
            frame = {"kind": "text", "text": line.decode(errors="replace")}
        self._ready = self._ready or frame.get("kind") == "ready"
        self.frames.append(frame)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()


async def turns_of(client: RemoteHive, name: str, count: int) -> list[TurnRow]:
    """The rows of an agent's turns, newest first, once there are so many: they are written a moment after the ack."""
    found: list[TurnRow] = []
    with within(END_SECONDS, lambda: f"{count} turns of {name}, and there are {found}"):
        while len(found) < count:
            page = await client.request(r.Turns(name=name))
            assert isinstance(page, TurnRows)
            found = page.turns
            if len(found) < count:
                await anyio.sleep(LOOK_AGAIN_SECONDS)
    return found


def agent_serve(place: HivePlace, name: str) -> HiveProcess:
    """The harness of an agent whose settings say `harness = "own"`."""
    return HiveProcess(place, ("agent", "serve", name), says_ready=False)


class _Impatient(RemoteHive):
    """A connection on which every request is answered in time."""

    async def request(self, request: r.Request) -> Reply:
        reply: list[Reply] = []
        with within(ANSWER_SECONDS, lambda: f"no answer to {str(request)[:300]}"):
            reply.append(await super().request(request))
        return reply[0]


@asynccontextmanager
async def connected(place: HivePlace) -> AsyncIterator[RemoteHive]:
    """A connection to the hive of this place. A request that is not answered in time fails the test."""
    client = _Impatient([place.run])
    await client.reach()
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def running(place: HivePlace) -> AsyncIterator[tuple[HiveProcess, RemoteHive]]:
    """One life of the hive, and a connection to it."""
    async with HiveProcess(place) as hive, connected(place) as client:
        yield hive, client
