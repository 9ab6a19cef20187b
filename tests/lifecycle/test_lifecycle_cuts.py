"""Every action, cut short at every step: the next start finishes or undoes it, and nobody is left in between.

A cut stands for a `kill -9`: from there on nothing of that life of the hive takes effect any more.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

import pytest

from hyperhive.errors import HiveError
from hyperhive.lifecycle import Lifecycle
from hyperhive.lifecycle.roster import Roster
from hyperhive.lifecycle.runtimes import ProcessRuntime
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import Destroyed, Killed, Spawned
from lifecycle_world import Loop, Loops, World

P = ParamSpec("P")
R = TypeVar("R")
ALICE = AgentName("alice")
Action = Callable[[Lifecycle], Awaitable[None]]


class CutError(Exception):
    """The process is dead."""


class Cuts:
    """Counts the steps of an action, and kills the process before or after the n-th."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.steps = 0
        self.dead = False

    def step(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        async def cut(*args: P.args, **kwargs: P.kwargs) -> R:
            self.steps += 1
            here = self.steps == self.at
            self.dead = self.dead or (here and not self.after)
            if self.dead:
                raise CutError
            result = await function(*args, **kwargs)
            if here:
                self.dead = True
                raise CutError
            return result

        return cut

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (Roster, "put"), (Roster, "remove"), (Loops, "start"), (Loop, "stop"), (ProcessRuntime, "release"),
            (World, "tell"), (World, "forget"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self.step(getattr(owner, name)))


ACTIONS: dict[str, Action] = {
    "spawn": lambda hive: hive.spawn("bob"),
    "stop": lambda hive: hive.stop("alice"),
    "stop by the manager": lambda hive: hive.stop("alice", by=MANAGER),
    "start": lambda hive: hive.start("carol"),
    "restart": lambda hive: hive.restart("alice"),
    "destroy": lambda hive: hive.destroy("alice"),
    "purge": lambda hive: hive.destroy("alice", purge=True),
    "spawn a tombstone": lambda hive: hive.spawn("dora"),
}


STEPS = {
    "spawn": 4,  # row, loop, told, row
    "stop": 5,  # row, loop, groups, told, row
    "stop by the manager": 5,
    "start": 2,  # row, loop
    "restart": 3,  # loop, groups, loop
    "destroy": 7,  # row, loop, groups, groups once more, questions, told, row
    "purge": 7,  # the same, with the mail
    "spawn a tombstone": 4,
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_cut_at_any_step_leaves_nothing_in_between(
    action: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1
    while True:
        world = World(Paths(tmp_path / f"{at}", tmp_path / f"{at}" / "r"))
        async with world.hive() as hive:
            for name in ("alice", "carol", "dora"):
                await hive.spawn(name)
            await hive.stop("carol")
            await hive.destroy("dora")
            world.told.clear()
            cuts = Cuts(at, after=after)
            with monkeypatch.context() as patches:
                cuts.apply(patches)
                done = await _runs(ACTIONS[action], hive)
                await hive._background.aclose()  # nothing of this life goes on
        async with world.hive() as hive:
            _check(world, hive, action, done=done)
        if cuts.steps < at:
            assert at - 1 == STEPS[action], "every step was cut"
            return
        at += 1


async def _runs(action: Action, hive: Lifecycle) -> bool:
    try:
        await action(hive)
    except HiveError:
        return False
    return True


def _check(world: World, hive: Lifecycle, action: str, *, done: bool) -> None:
    """Either it was never asked for, or it is done, and told."""
    rows = {agent.name: agent.row for agent in hive._roster}
    assert {row.phase for row in rows.values()} <= {"alive", "tombstone"}
    assert {row.pending for row in rows.values()} == {None}
    told = {type(event): key for event, key in world.told}
    assert len({(type(event), key) for event, key in world.told}) == len(told), "one event, one key"
    for name, row in rows.items():
        if row.phase == "alive":
            assert hive.view(name).running is not row.held
    alice = rows.get(ALICE)
    if action == "spawn":
        assert ("bob" in rows) is (Spawned in told)
        assert "bob" in rows or not done
    elif action == "stop":
        assert alice is not None
        assert alice.held is (Killed in told)
        assert alice.held or not done
    elif action == "start":
        assert not rows[AgentName("carol")].held or not done
    elif action == "destroy":
        assert alice is not None
        assert (alice.phase == "tombstone") is (Destroyed in told)
        assert alice.phase == "tombstone" or not done
    elif action == "purge":
        assert (alice is None) is (Destroyed in told)
        assert alice is not None or not hive.paths.agent_dir(ALICE).exists()
        assert alice is not None or "alice" in world.forgotten
        assert alice is None or not done
    elif action == "spawn a tombstone":
        assert (rows[AgentName("dora")].phase == "alive") is (Spawned in told)


class Boxes(ProcessRuntime):
    """Containers, which outlive the core; nothing is in them."""

    up_now: ClassVar[set[str]] = set()

    async def admit(self, *_: object) -> None: ...

    async def build(self, *_: object) -> bool:
        return True

    async def up(self, agent: AgentName, _: Lodging) -> bool:
        self.up_now.add(agent)
        return False

    async def hand_over(self, *_: object) -> bool:
        return False

    async def trim_logs(self) -> None: ...

    async def log_tail(self, *_: object) -> Sequence[str]:
        return ()

    async def release(self, agent: AgentName) -> None:
        self.up_now.discard(agent)

    async def remove(self, agent: AgentName) -> None:
        self.up_now.discard(agent)

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        self.up_now.intersection_update(agents)


async def test_only_who_is_to_run_keeps_a_container_from_one_life_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not whom the operator stopped just before the core was killed, nor who is gone from a database that was lost."""
    world = World(Paths(tmp_path / "hive", tmp_path / "hive/r"), runtime=Boxes)
    Boxes.up_now.clear()
    async with world.hive() as hive:
        for name in ("alice", "bob"):
            await hive.spawn(name)
        assert world.loops["bob"].at_home, "its harness is expected to report for duty"
        cuts = Cuts(1, after=False)
        with monkeypatch.context() as patches:
            patches.setattr(Boxes, "release", cuts.step(Boxes.release))
            assert not await _runs(lambda hive: hive.stop("bob"), hive)
    assert Boxes.up_now == {"alice", "bob"}
    async with world.hive(start=False):
        assert Boxes.up_now == {"alice"}
    for left in world.paths.state_dir.glob("hive.sqlite*"):
        left.unlink()
    async with world.hive(start=False) as hive:
        assert list(hive.tombstones()) == ["alice", "bob"]
        assert Boxes.up_now == set()
