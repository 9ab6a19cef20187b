"""Attack G10: decisions that come at once, by connections, threads and processes of their own.

One counts; its approval ends as it says.
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from deploy_world import ALICE, DeployWorld, Life
from desk import desk
from hyperhive.client import RemoteHive, connect
from hyperhive.errors import Conflict
from hyperhive.handlers.approvals import approvals
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.testing.approval_checker import ApprovalChecker

WORDS = ("approve", "approve", "deny")

PROCESSES = 3
DECIDERS = """
import json, socket, sys, threading

def decide(line, request, said, at_once):
    at_once.wait()
    line.sendall(json.dumps(request).encode() + b"\\n")
    answer = json.loads(line.makefile().readline())
    said.append([request["cmd"], answer["ok"], answer.get("code"), answer.get("error")])

words, lines = ("approve", "approve", "deny"), []
for _ in words:
    lines.append(socket.socket(socket.AF_UNIX))
    lines[-1].connect(sys.argv[1])
print("ready", flush=True)
for told in sys.stdin:
    seen, said, at_once = json.loads(told), [], threading.Barrier(len(words))
    threads = []
    for word, line in zip(words, lines):
        request = {"cmd": word, "id": seen["id"], **({"note": "no"} if word == "deny" else seen)}
        threads.append(threading.Thread(target=decide, args=(line, request, said, at_once)))
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps(said), flush=True)
"""
"""Each of its three threads has a connection and a word; a line on stdin says on what."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A socket's path has 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="hh-"))
    yield directory
    shutil.rmtree(directory)


@asynccontextmanager
async def operators(life: Life, run_dir: Path) -> AsyncIterator[list[RemoteHive]]:
    """The approvals of this life behind the admin socket, and three connections to it."""
    rows: Mapping[type[r.Request], Handler] = approvals(life.queue, life.deployer, broker=None)  # type: ignore[arg-type]
    asked: tuple[type[r.Request], ...] = (r.Show, r.Approve, r.Deny)
    served = {request: rows[request] for request in asked}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(desk(run_dir, served))
        yield [await stack.enter_async_context(connect(run_dir)) for _ in WORDS]


async def race(number: int, tabs: list[RemoteHive], shuffled: random.Random) -> tuple[list[str], list[str]]:
    """All three decide at once on what one of them saw; who won, and what the others were told."""
    won: list[str] = []
    lost: list[str] = []
    seen = (await tabs[0].approvals.show(number)).approval

    async def decide(word: str, tab: RemoteHive, pause: int) -> None:
        for _ in range(pause):
            await anyio.lowlevel.checkpoint()
        try:
            if word == "approve":
                await tab.approvals.approve(number, seen.commit_ref, seen.diff_sha256)
            else:
                await tab.approvals.deny(number, "no")
            won.append(word)
        except Conflict as error:
            lost.append(str(error))

    async with anyio.create_task_group() as tasks:
        for word, tab in zip(shuffled.sample(WORDS, 3), tabs, strict=True):
            tasks.start_soon(decide, word, tab, shuffled.randrange(8))
    return won, lost


async def rounds(count: int, root: Path, run_dir: Path) -> None:
    shuffled, checker, world = random.Random(count), ApprovalChecker(), DeployWorld(root)
    ended: dict[str, int] = {"approve": 0, "deny": 0}
    async with world.life() as life, operators(life, run_dir) as tabs:
        began = await world.main()
        checker.main_is(began)
        for turn in range(count):
            commit = await world.commit(f'prompt = "{turn}"\n')
            number = await life.queue.request_apply_commit("alice", commit, by="manager")
            checker.answered(number, "requested")
            checker.saw(number, commit)
            won, lost = await race(number, tabs, shuffled)
            assert (len(won), len(lost)) == (1, 2), (won, lost)
            assert all("by operator already" in said for said in lost), lost
            ended[won[0]] += 1
            checker.answered(number, {"approve": "approved", "deny": "denied"}[won[0]])
            assert life.waiting == ([number] if won == ["approve"] else [])
            await life.work()
            checker.main_is(await world.main())
        checker.finish(await life.queue.audit(limit=count * 4), await world.repos.tags(ALICE), [began])
    assert min(ended.values()) > count // 10, "each of them is the first at times"


async def test_of_three_that_decide_at_once_over_sockets_one_wins(tmp_path: Path, short: Path) -> None:
    """A hundred rounds; a thousand in the campaign."""
    await rounds(100, tmp_path, short)


async def rounds_of_processes(count: int, root: Path, run_dir: Path) -> None:
    checker, world = ApprovalChecker(), DeployWorld(root)
    async with world.life() as life, operators(life, run_dir), AsyncExitStack() as stack:
        began = await world.main()
        checker.main_is(began)
        deciders = []
        for _ in range(PROCESSES):
            command = [sys.executable, "-ISBc", DECIDERS, str(run_dir / "host.sock")]
            process = await stack.enter_async_context(await anyio.open_process(command, stderr=None))
            stack.callback(process.kill)
            assert process.stdin is not None
            assert process.stdout is not None
            deciders.append((process.stdin, BufferedByteReceiveStream(process.stdout)))
        for _, told in deciders:
            assert await told.receive_until(b"\n", 100) == b"ready"
        for turn in range(count):
            commit = await world.commit(f'prompt = "{turn}"\n')
            number = await life.queue.request_apply_commit("alice", commit, by="manager")
            checker.answered(number, "requested")
            checker.saw(number, commit)
            seen = (await life.queue.show(number)).approval
            line = json.dumps({"id": number, "sha": seen.commit_ref, "diff_sha256": seen.diff_sha256})
            async with anyio.create_task_group() as tasks:
                for stdin, _ in deciders:
                    tasks.start_soon(stdin.send, f"{line}\n".encode())
            said = [one for _, told in deciders for one in json.loads(await told.receive_until(b"\n", 65536))]
            won = [one for one in said if one[1]]
            assert (len(said), len(won)) == (3 * PROCESSES, 1), said
            assert all(one[2] == "conflict" and "by operator already" in one[3] for one in said if not one[1])
            checker.answered(number, {"approve": "approved", "deny": "denied"}[won[0][0]])
            assert life.waiting == ([number] if won[0][0] == "approve" else [])
            await life.work()
            checker.main_is(await world.main())
        checker.finish(await life.queue.audit(limit=count * 4), await world.repos.tags(ALICE), [began])


async def test_of_nine_threads_in_three_processes_one_wins(tmp_path: Path, short: Path) -> None:
    """Some rounds; a thousand in the campaign."""
    await rounds_of_processes(20, tmp_path, short)


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_of_nine_threads_in_three_processes_one_wins_a_thousand_times(
    tmp_path: Path, short: Path
) -> None:
    await rounds_of_processes(1000, tmp_path, short)


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_of_three_that_decide_at_once_over_sockets_one_wins_a_thousand_times(
    tmp_path: Path, short: Path
) -> None:
    await rounds(1000, tmp_path, short)
