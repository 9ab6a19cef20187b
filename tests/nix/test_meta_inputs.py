"""Bumps of what all containers share, on real Nix: what is newest is pinned once everybody's system was built with it.

Inputs are git repos and paths on this disk: nothing is fetched from a network.
"""

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from hyperhive.errors import BadRequest, Conflict, NotAvailable, NotFound, WorldError
from hyperhive.lifecycle.approvals import MIGRATIONS
from hyperhive.lifecycle.deploy import Configs, MetaInputs
from hyperhive.lifecycle.deploy.configs import Deployment
from hyperhive.lifecycle.runtimes.nixos_container import NO_IMPORT
from hyperhive.lifecycle.runtimes.nixos_flake import MetaFlake, Pin
from hyperhive.lifecycle.runtimes.nixos_inputs import SharedInputs
from hyperhive.lifecycle.runtimes.nixos_lock import listed, shared_digest
from hyperhive.names import AgentName
from hyperhive.store import Store
from nix_runs import NIX, run
from quick import QuickClock

pytestmark = [
    pytest.mark.needs("nix", "git"),
    pytest.mark.may_block("the cases look at files and run nix between steps"),
]

T = TypeVar("T")

ALICE, BOB = AgentName("alice"), AgentName("bob")

# What nix/flake.nix gives, with packages in a repo of their own and a system that is one small derivation.
OWN = """
{ inputs.nixpkgs.url = "git+file://%s/nixpkgs";
  outputs = { self, nixpkgs }: { lib.containers = import ./lib/containers.nix {
    harness = "harness"; agent = "agent"; manager = "manager";
    nixosSystem = given: { config.system.build.toplevel = derivation {
      name = "system"; inherit (given) system; builder = "/bin/sh"; args = [ "-c" "echo \\"$said\\" > $out" ];
      said = "${given.specialArgs.hyperhiveAgent.name} ${nixpkgs.version}";
    }; };
  }; };
}
"""


class Crash(BaseException):
    """The process is dead."""


class World:
    """A hive's flake over real repos, and the bumps of one life of the hive."""

    def __init__(self, root: Path, configs: Configs) -> None:
        self.root, self.configs = root, configs
        for place in ("home", "meta", "own/lib", "applied", "nixpkgs"):
            (root / place).mkdir(parents=True)
        (root / "own/flake.nix").write_text(OWN % root)
        for file in (NIX / "lib").iterdir():
            (root / "own/lib" / file.name).write_text(file.read_text())
        self.git("nixpkgs", "init", "-q", "-b", "main")
        self.release("1")
        self.flake = MetaFlake(root / "meta", root / "applied", f"path:{root}/own")
        self.on_flake = anyio.Lock()
        self.steps: list[str] = []
        self.die_at: int | None = None
        self.told: list[Sequence[AgentName]] = []
        self.telling_fails = False

    def git(self, repo: str, *words: str) -> str:
        env = {
            "PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        }  # fmt: skip
        done = subprocess.run(
            ["git", *words], cwd=self.root / repo, capture_output=True, text=True, check=True, env=env
        )
        return done.stdout.strip()

    def release(self, version: str) -> str:
        """The packages are at another version now; gives its commit."""
        (self.root / "nixpkgs/flake.nix").write_text(f'{{ outputs = _: {{ version = "{version}"; }}; }}')
        self.git("nixpkgs", "add", "-A")
        self.git("nixpkgs", "commit", "-q", "-m", version)
        return self.git("nixpkgs", "rev-parse", "HEAD")

    async def nix(self, *words: str) -> str:
        done = await anyio.to_thread.run_sync(run, self.root / "home", "nix", *words)
        if done.returncode != 0:
            raise WorldError(done.stderr)
        return done.stdout

    def life(self, *, shared: bool = True) -> MetaInputs:
        """The bumps as a hive that has just come up has them."""

        async def on_flake(work: Callable[[], T]) -> T:
            async with self.on_flake:
                return await anyio.to_thread.run_sync(work)

        async def failpoint(name: str) -> None:
            self.steps.append(name)
            if len(self.steps) == self.die_at:
                raise Crash(name)

        async def changed(agents: Sequence[AgentName]) -> None:
            if self.telling_fails:
                raise WorldError("the disk is full")
            self.told.append(agents)

        self.shared = SharedInputs(self.flake, on_flake, self.nix, system_of, NO_IMPORT)
        return MetaInputs(
            configs=self.configs,
            revision="7",
            shared=self.shared if shared else None,
            changed=changed,
            failpoint=failpoint,
        )

    async def agent(self, name: AgentName) -> None:
        """An agent whose container is built from the flake."""
        repo = self.root / "applied" / name
        if not repo.exists():
            repo.mkdir()
            self.git(f"applied/{name}", "init", "-q", "-b", "main")
            (repo / "agent.toml").write_text("")
            self.git(f"applied/{name}", "add", "-A")
            self.git(f"applied/{name}", "commit", "-q", "-m", "first")
        commit = self.git(f"applied/{name}", "rev-parse", "HEAD")
        place = self.flake.prepare(name, Pin(commit))
        await self.nix("flake", "lock", f"path:{place}")
        self.flake.finalize(name)
        await self.configs.begin([Deployment(name, 0, commit, "{}", 1700000000)])

    async def built(self, name: AgentName) -> str:
        """What the system says that is built from the flake as it is pinned."""
        told = await self.nix(
            "build", "--no-link", "--json", *NO_IMPORT, system_of(self.flake.directory, name)
        )
        out = json.loads(told)[0]["outputs"]["out"]
        return (await anyio.Path(out).read_text()).strip()


def system_of(place: Path, agent: AgentName) -> str:
    return f'path:{place}#nixosConfigurations."{agent}".config.system.build.toplevel'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await Store.open(tmp_path / "hive.sqlite", migrations=[MIGRATIONS], clock=QuickClock())
    configs = Configs(store)
    await configs.load()
    yield World(tmp_path, configs)
    await store.aclose()


async def test_a_bump_pins_what_is_newest_of_the_named_input_and_names_who_needs_an_update(
    world: World,
) -> None:
    inputs = world.life()
    for name in (ALICE, BOB):
        await world.agent(name)
    assert await world.built(ALICE) == "alice 1"
    before, newest = await inputs.listed(), world.release("2")
    assert [one.name for one in before] == ["hyperhive", "hyperhive/nixpkgs", "agent-alice", "agent-bob"]
    assert await world.built(ALICE) == "alice 1", "nothing moves by itself"
    assert not inputs.outdated("alice")
    said = await inputs.bump(["nixpkgs"])
    assert said == (
        f"hyperhive/nixpkgs: {(before[1].rev or '')[:12]} -> {newest[:12]};"
        " alice, bob need an update: hyperhive update --all"
    )
    after = await inputs.listed()
    assert [one.rev for one in after] == [before[0].rev, newest, before[2].rev, before[3].rev]
    assert after[1].updated_at is not None
    assert (after[2].updated_at, after[2].rev) == (
        1700000000,
        world.git("applied/alice", "rev-parse", "HEAD"),
    )
    assert (await world.built(ALICE), await world.built(BOB)) == ("alice 2", "bob 2")
    assert inputs.outdated("alice")
    assert world.told == [[ALICE, BOB]]
    assert await inputs.bump(["hyperhive"]) == "nothing is newer than what is pinned"
    assert not world.flake.shared_aside.exists()


async def test_what_is_pinned_is_answered_also_where_nobody_can_be_told(world: World) -> None:
    inputs = world.life()
    await world.agent(ALICE)
    world.release("2")
    world.telling_fails = True
    assert "alice needs an update" in await inputs.bump(["nixpkgs"])
    assert await world.built(ALICE) == "alice 2"


async def test_hyperhive_itself_is_bumped_with_all_that_it_needs(world: World) -> None:
    inputs = world.life()
    await world.agent(ALICE)
    world.release("3")
    (world.root / "own/flake.nix").write_text((OWN % world.root).replace("echo ", "echo new "))
    said = await inputs.bump(["hyperhive"])
    assert "hyperhive: " in said
    assert "hyperhive/nixpkgs: " in said
    assert await world.built(ALICE) == "new alice 3"


async def test_what_somebody_cannot_be_built_with_is_not_pinned(world: World) -> None:
    inputs = world.life()
    await world.agent(ALICE)
    lock = (world.flake.directory / "flake.lock").read_bytes()
    (world.root / "nixpkgs/flake.nix").write_text('{ outputs = _: { version = throw "broken release"; }; }')
    world.git("nixpkgs", "commit", "-q", "-a", "-m", "broken")
    with pytest.raises(WorldError, match="broken release"):
        await inputs.bump(["nixpkgs"])
    assert (world.flake.directory / "flake.lock").read_bytes() == lock
    assert not world.flake.shared_aside.exists()
    assert not inputs.outdated("alice")
    assert world.told == []
    world.release("4")
    await inputs.bump(["nixpkgs"])
    assert await world.built(ALICE) == "alice 4"


async def test_names_that_are_none_are_refused_and_an_agents_input_changes_by_approval_alone(
    world: World,
) -> None:
    inputs = world.life()
    await world.agent(ALICE)
    with pytest.raises(NotFound, match="no shared input 'nixpkg'") as unknown:
        await inputs.bump(["hyperhive", "nixpkg"])
    assert "hyperhive, hyperhive/nixpkgs" in str(unknown.value.hint)
    with pytest.raises(NotFound):
        await inputs.bump(["--option"])
    with pytest.raises(BadRequest, match="the commit that was approved"):
        await inputs.bump(["agent-alice"])
    with pytest.raises(BadRequest, match="no input is named"):
        await inputs.bump([])
    with pytest.raises(NotAvailable, match="not built by Nix"):
        await world.life(shared=False).bump(["hyperhive"])
    assert [one.name for one in await world.life(shared=False).listed()] == ["hyperhive", "agent-alice"]
    assert (await world.life(shared=False).listed())[0].rev == "7"


async def test_a_second_bump_meanwhile_is_refused(world: World) -> None:
    inputs = world.life()
    await world.agent(ALICE)
    world.release("2")
    ended: list[str] = []

    async def bump() -> None:
        try:
            ended.append(await inputs.bump(["nixpkgs"]))
        except Conflict as error:
            ended.append(error.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bump)
        tasks.start_soon(bump)
    assert ended[0] == "inputs are being bumped right now"
    assert "hyperhive/nixpkgs: " in ended[1]


async def test_killed_at_any_step_a_bump_has_happened_or_not_and_the_next_one_works(world: World) -> None:
    await world.agent(ALICE)
    for at in range(1, 7):
        version = world.release(str(at + 10))
        world.steps, world.die_at = [], at
        before = (await world.life().listed())[1].rev
        with pytest.raises(Crash):
            await world.life().bump(["nixpkgs"])
        died, world.die_at = world.steps[-1], None
        after = world.life()
        await after.start()
        pinned = (await after.listed())[1].rev
        assert pinned == (version if died == "after finalize" else before), died
        assert not world.flake.shared_aside.exists()
        assert await world.built(ALICE) == f"alice {at + 10 if died == 'after finalize' else 1}"
    world.release("99")
    await world.life().bump(["nixpkgs"])
    assert await world.built(ALICE) == "alice 99"


async def test_a_deploy_meanwhile_keeps_the_bump_and_the_bump_keeps_the_deploy(world: World) -> None:
    """Both were prepared from the same flake, and are pinned one after the other."""
    inputs = world.life()
    for name in (ALICE, BOB):
        await world.agent(name)

    async def deploy(name: AgentName) -> str:
        world.git(f"applied/{name}", "commit", "-q", "--allow-empty", "-m", "next")
        commit = world.git(f"applied/{name}", "rev-parse", "HEAD")
        await world.nix("flake", "lock", f"path:{world.flake.prepare(name, Pin(commit))}")
        return commit

    first = await deploy(ALICE)
    world.release("2")
    await inputs.bump(["nixpkgs"])
    world.flake.finalize(ALICE)
    assert (await world.built(ALICE), await world.built(BOB)) == ("alice 2", "bob 2")
    assert world.flake.pins()["alice"].commit == first

    newest = world.release("3")
    await world.shared.prepare(["nixpkgs"])
    second = await deploy(BOB)
    world.flake.finalize(BOB)
    await world.shared.finalize()
    await world.nix("flake", "lock", f"path:{world.flake.directory}")
    lock = world.flake.lock()
    assert isinstance(lock, dict)
    assert listed(lock)[1].rev == newest
    assert [lock["nodes"][f"agent-{name}"]["locked"]["rev"] for name in (ALICE, BOB)] == [first, second]
    assert await world.built(BOB) == "bob 3"


def test_a_lock_that_is_damaged_pins_nothing_and_ends_nothing() -> None:
    circle: dict[str, object] = {
        "nodes": {
            "root": {"inputs": {"hyperhive": "a"}},
            "a": {"locked": {"rev": 3}, "inputs": {"b": "b"}},
            "b": {"inputs": {"a": "a", "gone": "gone", "same": ["a"]}},
        }
    }
    several: list[object] = [
        None,
        [],
        {"nodes": 3},
        {},
        {"nodes": {"root": {"inputs": {"hyperhive": "gone"}}}},
    ]
    for damaged in several:
        assert [one.name for one in listed(damaged)] == ["hyperhive"]
        assert shared_digest(damaged) == ""
    assert [one.name for one in listed(circle)] == ["hyperhive", "hyperhive/b"]
    assert shared_digest(circle)


def test_what_nix_calls_the_nodes_does_not_count() -> None:
    def lock(shared: str, packages: str, rev: str) -> dict[str, object]:
        return {
            "nodes": {
                "root": {"inputs": {"agent-a": "other", "hyperhive": shared}},
                shared: {"locked": {"rev": "1"}, "inputs": {"nixpkgs": packages}},
                packages: {"locked": {"rev": rev}},
                "other": {"locked": {"rev": shared}},
            }
        }

    assert shared_digest(lock("h", "n", "2")) == shared_digest(lock("h_2", "n_2", "2"))
    assert shared_digest(lock("h", "n", "2")) != shared_digest(lock("h", "n", "3"))
