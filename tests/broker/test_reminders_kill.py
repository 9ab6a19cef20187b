"""`kill -9` at any moment: every reminder that was set comes once, with its text; a cancelled one never comes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.store import Store

CHILD = Path(__file__).with_name("reminder_child.py")


def one_life(state: Path, first: int, chance: random.Random) -> list[list[str]]:
    """Starts the child, kills it at a random moment; what it said."""
    child = subprocess.Popen([sys.executable, str(CHILD), str(state), str(first)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        lines = [child.stdout.readline() for _ in range(chance.randrange(2, 300))]
        assert lines[0] == b'["open"]\n'
        time.sleep(chance.random() / 200)  # the moment of death, not a wait for anything
    finally:
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        child.stdout.close()
        child.wait()
    lines += rest.splitlines(keepends=True)
    return [msgspec.json.decode(line) for line in lines if line.endswith(b"\n")]


async def all_mail(state: Path) -> Counter[str]:
    """Lets what is left be delivered, and counts the texts of all mail; those of files are read there."""
    paths = Paths.of(state)
    async with Store.open(paths.database, migrations=[MIGRATIONS]) as store:
        broker = Broker(store=store, files=AgentFiles(paths, isolated=True))
        await broker.start()
        with anyio.fail_after(30):
            async with broker.bus.subscribe() as events:
                while broker.reminders.pending_now("bob"):
                    await anext(aiter(events))
        rows = await store.read(lambda conn: conn.execute("SELECT body FROM messages").fetchall())
        await broker.aclose()
    texts: Counter[str] = Counter()
    for (body,) in rows:
        head, _, text = body.partition("\n\n")
        place = head.partition("in the file /state/")[2].removesuffix("]")
        texts[text or await anyio.Path(paths.agent_state(AgentName("bob")) / place).read_text()] += 1
    return texts


async def lives(state: Path, count: int, seed: int) -> int:
    Paths.of(state).agent_state(AgentName("bob")).mkdir(parents=True)
    chance = random.Random(seed)
    said = [line for life in range(count) for line in one_life(state, life * 1_000_000, chance)]
    of = {kind: {str(line[-1]) for line in said if line[0] == kind} for kind in
          ("set", "was set", "cancel", "cancelled")}  # fmt: skip
    texts = await all_mail(state)
    assert set(texts.values()) <= {1}, "mailed twice"
    assert texts.keys() <= of["set"] - of["cancelled"]
    assert texts.keys() >= of["was set"] - of["cancel"]
    return len(of["was set"])


@pytest.mark.may_block("the parent of a child that is killed; no loop is served meanwhile")
async def test_killing_it_at_any_moment_delivers_each_reminder_once(tmp_path: Path) -> None:
    assert await lives(tmp_path / "s", 6, seed=1) > 100


@pytest.mark.campaign
@pytest.mark.may_block("the parent of a child that is killed; no loop is served meanwhile")
async def test_killing_it_many_times_delivers_each_reminder_once(tmp_path: Path) -> None:
    for seed in range(10):
        await lives(tmp_path / str(seed), 60, seed=seed)
