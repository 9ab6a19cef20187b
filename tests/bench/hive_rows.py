"""The whole hive's rows: idle agents, the command line's own time, start-up, and coming back after kill -9.

Hives are real processes, `hyperhive up`; their agents never run a turn but in the last row, where the scripted CLI
serves.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from tests.bench.table import Contender, Goal, Group, Sample

import hyperhive
from hyperhive.client import connect
from hyperhive.config import HiveConfig, HiveFile
from hyperhive.host import Hive
from hyperhive.lifecycle.deploy.configs import Deployment
from hyperhive.testing.turns import install_scripted_cli
from parts import CLEAN_ENV

NO_COMMIT = "0" * 40
FEW, KNOWN, IDLE = 0, 200, 1000
WATCHED_SECONDS = 5.0
WAITING = 3
"""Messages in each inbox of the last row."""

HYPERHIVE = (sys.executable, "-m", "hyperhive.cli")
SCRIPT = str(Path(sys.executable).with_name("hyperhive"))


def fixed(value: float) -> Contender:
    """A goal that is a number, as a contender."""
    return lambda _: Sample(value)


class Place:
    """A short directory with everything a hive needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state, self.run = root / "s", root / "r"
        home = root / "home"
        home.mkdir()
        self.environ = {
            **CLEAN_ENV,
            "HOME": str(home),
            "HYPERHIVE_STATE_DIR": str(self.state),
            "HYPERHIVE_RUN_DIR": str(self.run),
            "HYPERHIVE_RUNTIME": "process",
            "HIVE_DASHBOARD_PORT": "0",
            "HYPERHIVE_CLAUDE": str(install_scripted_cli(root / "claude")),
        }

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """A hive's process, from its start on; killed in the end."""
        argv = [*HYPERHIVE, "up", "--json"]
        with subprocess.Popen(
            argv, env=self.environ, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            try:
                yield child
            finally:
                child.kill()
                child.wait()

    async def make_agents(self, count: int) -> None:
        """So many agents, none of whom has anything to do."""
        config = HiveConfig(file=HiveFile(), state_dir=self.state, run_dir=self.run, runtime="process")
        async with Hive.open(config=config, environ=self.environ) as hive:
            await hive.lifecycle.stop("manager")  # it would work the news of each of them
            configs = hive.config_code.configs
            for number in range(count):
                await hive.lifecycle.spawn(f"a{number}")
                # As if its repos had been made, by this revision: a start looks at them no more then.
                await configs.begin([Deployment(f"a{number}", 0, NO_COMMIT, "{}", 0, hyperhive.__version__)])
            lock = dict.fromkeys(configs.agents(), NO_COMMIT)
            await anyio.to_thread.run_sync((self.state / "meta" / "lock.json").write_text, json.dumps(lock))
            await hive.broker.purge("manager")


@contextmanager
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp"))
    try:
        yield Place(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def ready(child: subprocess.Popen[bytes]) -> None:
    """Returns when the hive has said that it serves."""
    assert child.stdout is not None
    while b'"ready"' not in (line := child.stdout.readline()):
        assert line, "the hive ended"


def _status(pid: int) -> tuple[float, float]:
    """Megabytes resident, and seconds of processor time so far."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return resident, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the rows ---------------------------------------------------------------------------------------------------------


class Idle:
    """A hive of so many idle agents, watched for a while: once for all figures."""

    def __init__(self, agents: int) -> None:
        self._agents = agents
        self._seen: tuple[float, float, int] | None = None

    def look(self) -> tuple[float, float, int]:
        """Megabytes, per cent of one core, processes beside the hive's own."""
        if self._seen is None:
            with place() as here:
                anyio.run(here.make_agents, self._agents)
                with here.up() as child:
                    ready(child)
                    self._settle(child.pid)
                    _, before = _status(child.pid)
                    time.sleep(WATCHED_SECONDS)
                    resident, after = _status(child.pid)
                    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            self._seen = (resident, (after - before) / WATCHED_SECONDS * 100, len(children))
        return self._seen

    @staticmethod
    def _settle(pid: int) -> None:
        """Returns when start-up's work is done: a second in which next to nothing was."""
        before = -1.0
        while (now := _status(pid)[1]) - before > 0.05:
            before = now
            time.sleep(1)


def _command(*words: str) -> Contender:
    def work(_: Path) -> Sample:
        with place() as here, here.up() as child:
            ready(child)
            took = []
            for _try in range(7):
                begun = time.perf_counter()
                subprocess.run(words, env=here.environ, check=True, stdout=subprocess.DEVNULL)
                took.append(time.perf_counter() - begun)
            return Sample(sorted(took)[3] * 1000)

    return work


def _up(agents: int) -> Contender:
    async def reach(run: Path) -> None:
        async with connect(run):
            pass

    def work(_: Path) -> Sample:
        with place() as here:
            anyio.run(here.make_agents, agents)
            begun = time.perf_counter()
            with here.up() as child:
                ready(child)
                anyio.run(reach, here.run)
                return Sample(time.perf_counter() - begun)

    return work


def _recovery(_: Path) -> Sample:
    """Every inbox is whole, and every agent has its next message in hand."""
    with place() as here:
        anyio.run(here.make_agents, KNOWN)
        _put_mail(here.state / "hive.sqlite")
        with here.up() as child:
            ready(child)
            _until(lambda: _served(here) >= KNOWN // 2)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        begun = time.perf_counter()
        with here.up() as child:
            ready(child)
            _until(lambda: _served(here) == KNOWN)
            took = time.perf_counter() - begun
        assert _count(here, "sender = 'operator' AND recipient <> 'operator'") == KNOWN * WAITING, (
            "mail was lost"
        )
        return Sample(took)


def _put_mail(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.executemany(
            "INSERT INTO messages (sender, recipient, body, sent_at) VALUES ('operator', ?, ?, unixepoch())",
            [(f"a{number}", f"message {n} for a{number}") for number in range(KNOWN) for n in range(WAITING)],
        )


def _count(here: Place, where: str, what: str = "*") -> int:
    with closing(sqlite3.connect(f"file:{here.state}/hive.sqlite?mode=ro", uri=True)) as db:
        (count,) = db.execute(f"SELECT count({what}) FROM messages WHERE {where}").fetchone()
    return int(count)


def _served(here: Place) -> int:
    """How many agents have a message in hand, or have worked all of theirs."""
    in_hand = "recipient LIKE 'a%' AND delivered_at IS NOT NULL AND acked_at IS NULL"
    left = "recipient LIKE 'a%' AND acked_at IS NULL"
    return _count(here, in_hand, "DISTINCT recipient") + KNOWN - _count(here, left, "DISTINCT recipient")


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def groups() -> list[Group]:
    """The rows."""
    many, none = Idle(IDLE), Idle(FEW)
    return [
        Group(
            f"{IDLE} idle agents in one process: memory",
            " MB",
            {
                "goal, all": fixed(600),
                "all": lambda _: Sample(many.look()[0]),
                "goal, each": fixed(0.5),
                "each": lambda _: Sample((many.look()[0] - none.look()[0]) / IDLE),
            },
            [Goal("all", "goal, all", 1.0, at_most=True), Goal("each", "goal, each", 1.0, at_most=True)],
            count_flushes=False,
            rounds=1,
        ),
        Group(
            f"{IDLE} idle agents in one process: of a core, and processes",
            "",
            {
                "goal, per cent": fixed(2),
                "per cent": lambda _: Sample(many.look()[1]),
                "processes": lambda _: Sample(many.look()[2]),
            },
            [Goal("per cent", "goal, per cent", 1.0, at_most=True)],
            count_flushes=False,
            rounds=1,
        ),
        Group(
            "the command line, whole process, p50",
            " ms",
            {
                "python -c pass": _command(sys.executable, "-c", "pass"),
                "goal of list": fixed(120),
                "hyperhive list": _command(SCRIPT, "list"),
                "goal of --help": fixed(150),
                "hyperhive --help": _command(SCRIPT, "--help"),
            },
            [
                Goal("hyperhive list", "goal of list", 1.0, at_most=True),
                Goal("hyperhive --help", "goal of --help", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=3,
        ),
        Group(
            "hyperhive up, from its start until it serves",
            " s",
            {
                "goal, no agents": fixed(1.5),
                "no agents": _up(FEW),
                f"goal, {KNOWN} agents": fixed(5),
                f"{KNOWN} agents": _up(KNOWN),
            },
            [
                Goal("no agents", "goal, no agents", 1.0, at_most=True),
                Goal(f"{KNOWN} agents", f"goal, {KNOWN} agents", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=3,
        ),
        Group(
            f"after kill -9 of everything, {KNOWN} agents: until all are served again",
            " s",
            {"goal": fixed(10), "served again": _recovery},
            [Goal("served again", "goal", 1.0, at_most=True)],
            count_flushes=False,
            rounds=2,
        ),
    ]
