"""Approvals of agents that are destroyed or purged meanwhile: each ends, once, and is told once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from approval_world import ALICE, ApprovalWorld
from hyperhive.errors import NotFound, WorldError
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.protocol.events import ApprovalResolved


@pytest.fixture
def world(tmp_path: Path) -> ApprovalWorld:
    return ApprovalWorld(tmp_path / "hive.sqlite")


async def ask(queue: ApprovalQueue, world: ApprovalWorld) -> int:
    return await queue.request_apply_commit("alice", world.change()[:10], by="manager")


@asynccontextmanager
async def destroyed_at(world: ApprovalWorld, when: str) -> AsyncIterator[ApprovalQueue]:
    """A queue whose agent is destroyed at a failpoint."""

    async def failpoint(name: str) -> None:
        if name == when:
            world.alive.discard("alice")
            tasks.start_soon(queue.resolve_all, "alice", "destroyed")
            await anyio.wait_all_tasks_blocked()

    async with world.queue(failpoint) as queue, anyio.create_task_group() as tasks:
        yield queue


@pytest.mark.parametrize("when", ["before propose", "after propose", "before submit", "after submit"])
async def test_what_is_asked_for_while_its_agent_is_destroyed_fails_with_it(
    when: str, world: ApprovalWorld
) -> None:
    async with destroyed_at(world, when) as queue:
        number = await ask(queue, world)
    async with world.queue() as queue:
        assert await queue.pending() == []
        approval = (await queue.show(number)).approval
        assert (approval.stage, approval.note) == ("failed", "destroyed")


async def test_nothing_is_asked_for_once_its_agent_is_gone(world: ApprovalWorld) -> None:
    """Also where the request waited its turn while the agent was destroyed."""

    async def asks() -> None:
        with pytest.raises(NotFound, match="no agent named alice"):
            await ask(queue, world)

    async with world.queue() as queue, anyio.create_task_group() as tasks, queue._locks["alice"]:
        tasks.start_soon(asks)
        await anyio.wait_all_tasks_blocked()
        world.alive.discard("alice")
    assert "proposal/1" not in world.repos.tags_of["alice"]


async def test_what_failed_as_its_agent_was_purged_is_told_in_the_next_life_and_never_again(
    world: ApprovalWorld,
) -> None:
    """The hive died before it was told, and the repo that its tag belongs to is gone."""
    async with world.queue() as queue:
        number = await ask(queue, world)
        world.tell_fails = True
        await queue.resolve_all("alice", "destroyed")
    world.tell_fails = False
    await world.repos.purge(ALICE)
    world.repos.commits.clear()
    async with world.queue() as queue:  # a new agent has the name, and a repo that knows no such commit
        (row,) = (await queue.unfinished())[1]
        await queue.settle(row)
        assert f"approval:{number}:resolved" in world.told
        assert await queue.unfinished() == ([], [])


async def test_a_tag_that_can_never_be_made_tells_nobody_twice(
    world: ApprovalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(*_: object, **__: object) -> None:
        raise WorldError("the repo is damaged")

    monkeypatch.setattr(world.repos, "tag", damaged)
    async with world.queue() as queue:
        with pytest.raises(WorldError):
            await ask(queue, world)
    monkeypatch.undo()
    async with world.queue() as queue:
        number = await ask(queue, world)
        monkeypatch.setattr(world.repos, "tag", damaged)
        await queue.deny(number, "no")
    world.told.clear()  # its key is known for a day
    for _ in range(2):
        async with world.queue() as queue:
            (row,) = (await queue.unfinished())[1]
            await queue.settle(row)
            assert not world.told
            assert not any(isinstance(one.event, ApprovalResolved) for one in world.bus.history())
    monkeypatch.undo()
    async with world.queue() as queue:
        (row,) = (await queue.unfinished())[1]
        await queue.settle(row)
        assert world.repos.messages["alice", f"denied/{number}"] == "no"
        assert await queue.unfinished() == ([], [])
