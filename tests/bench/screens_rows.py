"""The operator's screens' rows: the snapshot, the flow of messages and the search, on a hive with a long past.

Rows of mail are written into the file of a hive that does not run; the index is made by the hive's own indexer, and
once for all rows.
"""

import atexit
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path

import anyio
from tests.bench.hive_rows import fixed
from tests.bench.table import Contender, Goal, Group, Sample

from hyperhive.broker import Broker
from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.config import HiveConfig, HiveFile
from hyperhive.host import Hive
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Actor
from hyperhive.screens.flow import Flow
from hyperhive.screens.indexer import Indexer
from hyperhive.screens.search import Search
from hyperhive.testing.turns import install_scripted_cli
from parts import CLEAN_ENV

MANY, AGENTS = 100_000, 200
FEW, MOST = 1000, 1_000_000
ASKED = 100
WORDS = [f"word{number}" for number in range(5000)] + ["the", "parser", "fails", "again"] * 300


def mail(path: Path, count: int) -> None:
    """So much mail that was read long ago."""
    dice = random.Random(count)
    now = int(time.time())
    rows = (
        (
            f"a{dice.randrange(AGENTS)}",
            f"a{dice.randrange(AGENTS)}",
            " ".join(dice.choices(WORDS, k=40)) if count <= MANY else "the parser fails",
            now - count + number,
            now,
            now,
        )
        for number in range(count)
    )
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany(
            "INSERT INTO messages (sender, recipient, body, sent_at, delivered_at, acked_at) VALUES (?,?,?,?,?,?)",
            rows,
        )


def _kept() -> Path:
    """A directory for all rounds; removed when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="hyperhive-bench-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@cache
def indexed() -> Path:
    """A database of `MANY` messages with its index; made once."""
    root = _kept()

    async def make() -> None:
        async with Broker.open(root / "hive.sqlite"):
            pass
        await anyio.to_thread.run_sync(mail, root / "hive.sqlite", MANY)
        async with Broker.open(root / "hive.sqlite") as broker:
            indexer = _indexer(broker, root)
            await indexer.open()
            while await indexer.step():
                pass
            await indexer.aclose()

    anyio.run(make)
    return root


def _indexer(broker: Broker, root: Path) -> Indexer:
    return Indexer(database=broker, path=root / "words.sqlite", bus=broker.bus, clock=SYSTEM_CLOCK)


Ask = Callable[[], Awaitable[object]]


def p95(make: Callable[[Search, Flow], Sequence[Ask]]) -> Contender:
    """The 95th of a hundred answers, in milliseconds."""

    async def measure() -> float:
        root = indexed()
        async with Broker.open(root / "hive.sqlite") as broker:
            indexer = _indexer(broker, root)
            await indexer.open()
            times = []
            for ask in make(Search(broker, indexer, SYSTEM_CLOCK), Flow(broker, indexer)):
                begun = time.perf_counter()
                await ask()
                times.append((time.perf_counter() - begun) * 1000)
            await indexer.aclose()
        return sorted(times)[int(len(times) * 0.95)]

    def contender(_: Path) -> Sample:
        indexed()  # outside the loop of the measuring
        return Sample(anyio.run(measure))

    return contender


def _searches(search: Search, _: Flow) -> Sequence[Ask]:
    queries = [f"word{number * 47 % 5000}" for number in range(ASKED // 2)]
    queries += ["the parser", '"parser fails"', "pars", "again the", "fails"] * (ASKED // 10)
    return [partial(search.find, query) for query in queries]


def _pages(_: Search, flow: Flow) -> Sequence[Ask]:
    asked = [r.Flow(limit=100, agent=f"a{number}") for number in range(ASKED // 2)]
    asked += [r.Flow(limit=100, agent=f"a{number}", other="a7") for number in range(ASKED // 4)]
    asked += [r.Flow(limit=100, before=1 + number * 3000) for number in range(ASKED // 4)]
    return [partial(flow.page, one) for one in asked]


def _state(root: Path) -> Sample:
    """Processor milliseconds of a snapshot."""

    async def measure() -> float:
        place = Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp"))
        try:
            environ = {
                **CLEAN_ENV,
                "HOME": str(place),
                "HYPERHIVE_CLAUDE": str(install_scripted_cli(place / "c")),
            }
            config = HiveConfig(
                file=HiveFile(), state_dir=place / "s", run_dir=place / "r", runtime="process"
            )
            async with Hive.open(config=config, environ=environ):
                pass
            await anyio.to_thread.run_sync(_stopped_agents, place / "s" / "hive.sqlite")
            async with Hive.open(config=config, environ=environ) as hive:
                spent = []
                for _ in range(20):
                    begun = time.process_time()
                    await hive.dispatcher.dispatch(Actor.operator(), r.State())
                    spent.append((time.process_time() - begun) * 1000)
                return sorted(spent)[len(spent) // 2]
        finally:
            await anyio.to_thread.run_sync(partial(shutil.rmtree, place, ignore_errors=True))

    del root
    return Sample(anyio.run(measure))


def _stopped_agents(path: Path) -> None:
    mail(path, MANY)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany(
            "INSERT INTO agents (name, role, created_at, phase, held, action, mounts)"
            " VALUES (?, 'agent', 1, 'alive', 1, 0, '[]')",
            [(f"a{number}",) for number in range(AGENTS)],
        )


@cache
def _past(count: int) -> Path:
    root = _kept()

    async def make() -> None:
        async with Broker.open(root / "hive.sqlite"):
            pass

    anyio.run(make)
    mail(root / "hive.sqlite", count)
    return root


def _opening(count: int) -> Contender:
    """Milliseconds from opening to the first page, with the index still to be made."""

    async def measure(root: Path) -> float:
        begun = time.perf_counter()
        async with Broker.open(root / "hive.sqlite") as broker, anyio.create_task_group() as group:
            indexer = _indexer(broker, root)
            group.start_soon(indexer.run)
            await Flow(broker, indexer).page(r.Flow(limit=100))
            took = (time.perf_counter() - begun) * 1000
            group.cancel_scope.cancel()
        return took

    def contender(_: Path) -> Sample:
        root = _past(count)
        (root / "words.sqlite").unlink(missing_ok=True)
        return Sample(anyio.run(measure, root))

    return contender


def groups() -> list[Group]:
    """The rows."""
    return [
        Group(
            f"search and pages over {MANY // 1000} k messages, p95",
            " ms",
            {"goal": fixed(100), "search": p95(_searches), "pages by agent and pair": p95(_pages)},
            [
                Goal("search", "goal", 1.0, at_most=True),
                Goal("pages by agent and pair", "goal", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=3,
        ),
        Group(
            f"the snapshot of {AGENTS} agents and {MANY // 1000} k messages, processor time",
            " ms",
            {"goal": fixed(50), "state": _state},
            [Goal("state", "goal", 1.0, at_most=True)],
            count_flushes=False,
            rounds=2,
        ),
        Group(
            "opening, to the first page of messages",
            " ms",
            {"1 k messages": _opening(FEW), "1 M messages": _opening(MOST)},
            [Goal("1 M messages", "1 k messages", 1.2, at_most=True)],
            count_flushes=False,
            rounds=5,
        ),
    ]
