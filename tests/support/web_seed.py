"""A hive's state as it is after a busy month: agents, mail, decisions, turns. For the operator's screens.

Everything is made from one seed, so that two runs show the same, but for the time, which is now. What only a hive can
make (agents, questions, reminders) is made by one; the bulk (mail that is over, events, turns) is written as rows into
the files of a hive that does not run. Starts nothing that goes on.
"""

import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio.to_thread
import msgspec

import hyperhive
from hive_process import HivePlace
from hyperhive.broker import Broker
from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.config import HiveConfig, HiveFile
from hyperhive.eventlog import EventLogs
from hyperhive.harness.stats import STATS_FILE, TurnStats
from hyperhive.host import Hive
from hyperhive.names import parse_resident
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyLiveEvent, Note, Stream, TurnEnd, TurnStart
from hyperhive.protocol.live import encode_live, kind_of
from hyperhive.protocol.types import ResultKind, TurnRow
from hyperhive.screens.indexer import Indexer

DAY_SECONDS = 86_400
MONTH_SECONDS = 30 * DAY_SECONDS

AREAS = (
    "billing", "search", "parser", "docs", "infra", "mobile", "auth", "graph", "queue", "store", "report", "import",
    "export", "mail", "sync", "cache", "lint", "bench", "deploy", "audit",
)  # fmt: skip
TASKS = ("review", "tests", "fixes", "triage", "perf", "port", "notes", "build", "watch", "plan")

OPENINGS = (
    "The failing case is", "I looked at", "Please check", "Done with", "Next I take", "Two things about",
    "This is slower than it was:", "I cannot reproduce", "Reviewed", "A question on",
)  # fmt: skip
THINGS = (
    "the retry loop in `client.py`", "the migration of the **orders** table", "the parser's error recovery",
    "the flaky upload test", "how sessions expire", "the new search index", "the release notes", "the memory graph",
    "rate limits of the importer", "the naming of the public API",
)  # fmt: skip
ENDINGS = (
    "It fails about one time in twenty.", "All 214 tests pass now.", "I would rather split it in two.",
    "Figures are in /state/notes.md.", "It needs a decision by the operator.", "No change was needed.",
    "The old path stays until Friday.",
    "See the table:\n\n| run | ms |\n| --- | --- |\n| before | 812 |\n| after | 95 |",
    "Steps:\n\n1. stop the worker\n2. run the migration\n3. start it again", "I'll report when it is done.",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    agents: int = 24
    messages: int = 2_000
    turns: int = 60
    """Of each of the agents that have a past."""
    pasts: int = 6
    """So many agents have turns and events."""
    real: int = 24
    """So many agents are made by a hive, with their config repos; the others are written as rows."""


TYPICAL = Scale()
LARGE = Scale(agents=200, messages=100_000, turns=120, pasts=20, real=10)
BUSY = replace(LARGE, agents=70, messages=5_000, turns=60)
"""The same in small, in a fraction of the time."""


@dataclass
class Seeded:
    """What a test may ask for by name."""

    agents: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    tombstones: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    needle: str = "zanzibar-migration"
    """A word that stands in exactly one old message."""
    needle_id: int = 0


def names(count: int) -> list[str]:
    """So many names of agents, all different."""
    return [f"{area}-{task}" for task in TASKS for area in AREAS][:count]


def commit_of(name: str) -> str:
    """What stands for the commit of an agent that has no repos."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def sentence(dice: random.Random) -> str:
    """What an agent might write."""
    return f"{dice.choice(OPENINGS)} {dice.choice(THINGS)}. {dice.choice(ENDINGS)}"


async def seed(place: HivePlace, scale: Scale = TYPICAL) -> Seeded:
    """Fills the place's state directory; no hive may run there."""
    seeded = Seeded(agents=names(scale.agents))
    seeded.stopped = seeded.agents[-max(2, scale.agents // 12) :]
    await _people(place, seeded, scale)
    await anyio.to_thread.run_sync(_rows, place.state, seeded, scale)
    for name in seeded.agents[: scale.pasts]:
        await _past(place.state / "agents" / name / "harness", name, scale.turns)
    await _indexed(place.state)
    return seeded


# --- what a hive makes ------------------------------------------------------------------------------------------------


async def _people(place: HivePlace, seeded: Seeded, scale: Scale) -> None:
    config = HiveConfig(file=HiveFile(), state_dir=place.state, run_dir=place.run, runtime="process")
    async with Hive.open(config=config, environ=place.environ) as hive:
        await hive.lifecycle.stop("manager")  # else it would work the news of each of them
        gone = [f"old-{task}" for task in TASKS[:3]] if seeded.agents else []
        made = seeded.agents[: scale.real]
        for name in (*made, *gone):
            await hive.lifecycle.spawn(name)
            await hive.config_code.provision(parse_resident(name))
        for name in set(made) & set(seeded.stopped):
            await hive.lifecycle.stop(name)
        for name in gone:
            await hive.lifecycle.destroy(name)
        seeded.tombstones = gone
        if seeded.agents:
            await _asked(hive, seeded)
        await hive.broker.purge("manager")


async def _asked(hive: Hive, seeded: Seeded) -> None:
    """What waits for the operator, and a reminder."""
    ask = hive.broker.questions.ask
    first, second, third = seeded.agents[:3]
    databases, platforms = ("the main one", "one of its own"), ("linux", "macos", "windows")
    seeded.asked = [
        await ask(first, "Which database shall the new index live in?", options=databases),
        await ask(second, "Which platforms do we still support?", options=platforms, multi=True),
        await ask(third, "How should the release be called?", ttl_seconds=86_400),
    ]
    await hive.broker.reminders.set(first, "look at the nightly run", due_at=int(time.time()) + 7200)


async def _indexed(state: Path) -> None:
    """The search's index, so that no test waits for a hive to make it beside its work."""
    path = Paths(state, state).index
    async with Broker.open(state / "hive.sqlite") as broker:
        indexer = Indexer(database=broker, path=path, bus=broker.bus, clock=SYSTEM_CLOCK)
        await indexer.open()
        while await indexer.step():
            pass
        await indexer.aclose()


# --- what is over, as rows ------------------------------------------------------------------------------------------


def _rows(state: Path, seeded: Seeded, scale: Scale) -> None:
    """Everything that no hive has to be there for. Asserts nothing of the hive but its tables."""
    with closing(sqlite3.connect(state / "hive.sqlite")) as db, db:
        _others(db, state / "meta" / "lock.json", seeded, scale)
        _mail(db, seeded, scale)
        _spent(db, seeded, scale)


def _others(db: sqlite3.Connection, lock: Path, seeded: Seeded, scale: Scale) -> None:
    """Agents beyond those that a hive made: as if they had been, with a commit that no repo holds."""
    others = seeded.agents[scale.real :]
    if not others:
        return
    now = int(time.time())
    db.executemany(
        "INSERT INTO agents (name, role, created_at, phase, held, action, mounts)"
        " VALUES (?, 'agent', ?, 'alive', ?, 0, '[]')",
        [(name, now - MONTH_SECONDS, name in seeded.stopped) for name in others],
    )
    # Built by this revision: the next start would build anew whom another had built, one after the other.
    db.executemany(
        "INSERT INTO deployments (agent, number, sha, config, at, revision) VALUES (?, 0, ?, '{}', 0, ?)",
        [(name, commit_of(name), hyperhive.__version__) for name in others],
    )
    # A hive that ended early writes it when it starts.
    known = json.loads(lock.read_text()) if lock.exists() else {}
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({**known, **{name: commit_of(name) for name in others}}))


def _spent(db: sqlite3.Connection, seeded: Seeded, scale: Scale) -> None:
    """What the agents with a past spent on each day of the last month; the price of the last one's model is unknown."""
    dice = random.Random(11)
    today = int(time.time()) // DAY_SECONDS * DAY_SECONDS
    spenders = seeded.agents[: scale.pasts]
    for day in range(today - 29 * DAY_SECONDS, today + 1, DAY_SECONDS):
        for name in spenders:
            priced = name != spenders[-1]
            rows = [
                (day + n, name, "env", "gateway", "haiku" if priced else "house-model", dice.randint(50, 4000),
                 dice.randint(10, 3000), dice.randint(0, 90_000), dice.randint(0, 4000),
                 dice.randint(100_000, 90_000_000) if priced else 0, "haiku" if priced else None, 1, day // 100 + n)
                for n in range(dice.randint(1, 4))
            ]  # fmt: skip
            db.executemany(
                "INSERT INTO spending (at, agent, account, source, model, input_tokens, output_tokens,"
                " cache_read_input_tokens, cache_creation_input_tokens, cost_nano, priced_as, complete, turn)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            db.execute(
                "INSERT INTO spending_days (day, agent, tokens, cost_nano, requests) VALUES (?, ?, ?, ?, ?)",
                (day, name, sum(sum(row[5:9]) for row in rows), sum(row[9] for row in rows), len(rows)),
            )


def _mail(db: sqlite3.Connection, seeded: Seeded, scale: Scale) -> None:
    """Messages of the last month: nearly all done, some waiting for agents that are stopped, a few dead letters."""
    first = int(db.execute("SELECT coalesce(max(id), 0) + 1 FROM messages").fetchone()[0])
    seeded.needle_id = first + scale.messages // 10
    db.executemany(
        "INSERT INTO messages (id, sender, recipient, body, sent_at, delivered_at, acked_at, parked, parked_at,"
        " reason, chain, tries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        _messages(first, seeded, scale, random.Random(7)),
    )


def _messages(first: int, seeded: Seeded, scale: Scale, dice: random.Random) -> Iterator[tuple[object, ...]]:
    now = int(time.time())
    running = [name for name in seeded.agents if name not in seeded.stopped]
    for n in range(scale.messages):
        at = now - MONTH_SECONDS + n * MONTH_SECONDS // scale.messages
        sender, recipient = dice.sample(running, 2)
        body = sentence(dice)
        left = scale.messages - n
        if n % 40 == 0:
            sender, recipient = dice.choice([("operator", recipient), (sender, "operator")])
        if first + n == seeded.needle_id:
            body = f"The {seeded.needle} is ready. {body}"
        chain = first + n - n % 5
        row = (first + n, sender, recipient, body, at)
        if left <= 6:  # the newest wait for those that are stopped
            yield (
                *row[:2],
                seeded.stopped[n % len(seeded.stopped)],
                *row[3:],
                None,
                None,
                None,
                None,
                None,
                chain,
                0,
            )
        elif recipient == "operator" and left < 400:
            yield (*row, None, None, None, None, None, chain, 0)
        elif left % 701 == 9:
            yield (*row, at + 2, None, "dead", at + 900, "its turn got stuck 5 times", chain, 5)
        else:
            yield (*row, at + 1, at + dice.randint(5, 300), None, None, None, chain, 0)


KINDS: Sequence[ResultKind] = ("ok",) * 16 + (
    "failed",
    "stuck",
    "limited",
    "cancelled",
    "crashed",
    "prompt_too_long",
)


async def _past(harness: Path, name: str, turns: int) -> None:
    """Turns and what was seen of them, over the last month, the newest an hour ago."""
    dice = random.Random(name)
    now = int(time.time())
    await anyio.to_thread.run_sync(lambda: harness.mkdir(parents=True, exist_ok=True))
    ends = [now - 3600 - (turns - n) * (MONTH_SECONDS - 7200) // max(1, turns) for n in range(1, turns + 1)]
    rows = [turn_row(turn, ended, dice) for turn, ended in enumerate(ends, 1)]
    await _ended(harness / STATS_FILE, rows)
    logs = EventLogs()
    try:
        events = await logs.open(harness / "hyperhive-events.sqlite")
        for row in rows:
            if row.ended_at > now - 6 * DAY_SECONDS:  # older events are swept
                for event in turn_events(row, dice):
                    events.append(row.started_at, kind_of(event), encode_live(event))
    finally:
        await logs.aclose()


async def _ended(path: Path, rows: Sequence[TurnRow]) -> None:
    """The statistics of these turns: the first as a harness writes it, the others at one go."""
    first, *others = rows
    assert await TurnStats(path, SYSTEM_CLOCK).add(first) is None

    def write() -> None:
        with closing(sqlite3.connect(path)) as db, db:
            names = [row[1] for row in db.execute("PRAGMA table_info(turn_stats)") if row[1] != "id"]
            db.executemany(
                f"INSERT INTO turn_stats ({', '.join(names)}) VALUES ({', '.join(f':{n}' for n in names)})",
                [msgspec.structs.asdict(row) for row in others],
            )

    await anyio.to_thread.run_sync(write)


def turn_row(turn: int, ended: int, dice: random.Random) -> TurnRow:
    """One turn's statistics."""
    seconds = dice.randint(2, 240)
    calls = {"Bash": dice.randint(0, 9), "Read": dice.randint(0, 14), "Edit": dice.randint(0, 6)}
    context = dice.randint(12_000, 160_000)
    return TurnRow(
        started_at=ended - seconds, ended_at=ended, duration_ms=seconds * 1000 + dice.randint(0, 999),
        model=dice.choice(("haiku", "sonnet")), wake_from=dice.choice(("operator", "manager", *AREAS[:3])),
        result_kind=dice.choice(KINDS), input_tokens=dice.randint(100, 4000), output_tokens=dice.randint(50, 3000),
        cache_read_input_tokens=context, cache_creation_input_tokens=dice.randint(0, 9000),
        last_input_tokens=dice.randint(1, 400), last_output_tokens=dice.randint(1, 900),
        last_cache_read_input_tokens=context, last_cache_creation_input_tokens=dice.randint(0, 900),
        tool_call_count=sum(calls.values()), tool_call_breakdown_json=msgspec.json.encode(calls).decode(),
        cost=dice.randint(1, 90) / 1000, turn=turn,
    )  # fmt: skip


# --- what was seen of a turn ------------------------------------------------------------------------------------------


def turn_events(row: TurnRow, dice: random.Random) -> list[AnyLiveEvent]:
    """The turn's stream: every kind of row that the agent's page shows."""
    turn = row.turn
    ok = row.result_kind == "ok"
    lines = [
        _assistant({"type": "thinking", "thinking": f"Where to begin? {sentence(dice)}", "signature": "x"}),
        _assistant({"type": "text", "text": f"{sentence(dice)}\n\n```python\ndef retry(n: int) -> int:\n```"}),
        *_tool(turn, 1, "Bash", {"command": "pytest -q tests/client", "description": "Run the client's tests"},
               "214 passed in 8.21s" if ok else "E   AssertionError: 3 != 4\n1 failed, 213 passed", failed=not ok),
        *_tool(turn, 2, "Read", {"file_path": "/workspace/app/client.py", "limit": 40},
               "\n".join(f"{n:>6}→{dice.choice(('', '    '))}line {n}" for n in range(1, 41))),
        *_tool(turn, 3, "Edit", {"file_path": "/workspace/app/client.py", "old_string": "tries = 3\n",
               "new_string": "tries = 5\nwait = 0.2\n"}, "The file was updated."),
        *_tool(turn, 4, "mcp__hyperhive__send", {"to": "manager", "body": sentence(dice)},
               "sent\n\ninbox: 0 unread"),
        *_tool(turn, 5, "mcp__hyperhive__recv", {"max": 2}, f"from: manager\n\n{sentence(dice)}\n\ninbox: 0 unread"),
        *_tool(turn, 6, "mcp__tracker__list_issues", {"state": "open", "labels": ["bug"]},
               '[{"id": 7, "title": "slow"}]'),
        *_tool(turn, 7, "TodoWrite", {"todos": [{"content": "find it", "status": "completed", "activeForm": "finding"},
               {"content": "mend it", "status": "in_progress", "activeForm": "mending"}]}, "ok"),
        _assistant({"type": "text", "text": "I am done with this part." if ok else "I could not finish this."}),
        {"type": "result", "subtype": "success" if ok else "error_during_execution", "is_error": not ok,
         "terminal_reason": "completed" if ok else "api_error", "num_turns": 7, "duration_ms": row.duration_ms,
         "total_cost_usd": row.cost, "result": "done", "usage": {"input_tokens": row.input_tokens}},
    ]  # fmt: skip
    shown: list[AnyLiveEvent] = [
        TurnStart(sender=row.wake_from, body=sentence(dice), unread=dice.randint(0, 3), turn=turn)
    ]
    shown += [Stream(line=json.dumps(line).encode(), turn=turn) for line in lines]
    if not ok:
        shown.append(Note(text=f"the CLI said: {row.result_kind}", source="cli", turn=turn))
    if turn and turn % 9 == 0:
        shown.append(Note(text="model changed to sonnet", source="operator", turn=None))
    shown.append(
        TurnEnd(
            ok=ok, note=None if ok else f"{row.result_kind}: the API answered 529 (overloaded)", turn=turn
        )
    )
    return shown


def _assistant(block: dict[str, object]) -> dict[str, object]:
    return {
        "type": "assistant", "parent_tool_use_id": None, "session_id": "s", "uuid": "u",
        "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "haiku", "content": [block]},
    }  # fmt: skip


def _tool(
    turn: int | None, n: int, name: str, given: dict[str, object], result: str, *, failed: bool = False
) -> list[dict[str, object]]:
    call = f"toolu_{turn}_{n}"
    block = {"type": "tool_result", "tool_use_id": call, "content": result, "is_error": failed}
    answer: dict[str, object] = {
        "type": "user",
        "parent_tool_use_id": None,
        "message": {"role": "user", "content": [block]},
    }
    return [_assistant({"type": "tool_use", "id": call, "name": name, "input": given}), answer]
