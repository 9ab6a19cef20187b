"""The runtime `nixos-container` over the fake machine, whose grammar and traps its own tests pin.

Real: the containers' boxes, git, the files. Not here: Nix itself, which tests/nix runs on the same flake.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from hyperhive.config import AgentConfig, HiveFile, MountSetting, parse_hive_file
from hyperhive.errors import BadConfig, Conflict, InvalidName, MissingPart, WorldError
from hyperhive.lifecycle.runtimes import ResourceLimits
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.lifecycle.runtimes.nixos_conf import Bind
from hyperhive.lifecycle.runtimes.nixos_container import NixosContainerRuntime
from hyperhive.lifecycle.runtimes.nixos_flake import check_plain
from hyperhive.names import MANAGER, parse_agent_name
from hyperhive.paths import Paths
from hyperhive.testing import fake_nixos
from nixos_world import ALICE, FakeHost, NixosWorld

pytestmark = [
    pytest.mark.needs("bwrap"),
    pytest.mark.needs("root"),
    pytest.mark.needs("git"),
    pytest.mark.may_block("the cases look at files between commands"),
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NixosWorld]:
    async with NixosWorld.open(tmp_path) as world:
        yield world


async def test_a_container_comes_up_with_what_the_agent_has_and_goes_down(
    world: NixosWorld, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    mount = MountSetting(source=str(tmp_path / "code"), target="/workspace/code", mode="rw")
    await world.runtime.up(ALICE, await world.lodging(mounts=[mount]))
    assert await world.status() == "up"
    script = """for d in /state /claude /workspace/code; do touch $d/mine || exit 1; done;
        touch /run/hive/x; ls /run/hive*ss"""
    inside = await anyio.to_thread.run_sync(world.host.run, "run", "alice", "--", "sh", "-c", script)
    assert inside.stdout == "hive.toml\n"
    assert "Read-only" in inside.stderr
    assert (world.paths.agent_state(ALICE) / "mine").exists()
    assert (tmp_path / "code/mine").exists()
    await world.runtime.release(ALICE)
    assert await world.status() == "down"


async def test_every_update_names_its_configuration(world: NixosWorld) -> None:
    """A bare one would build the attribute `container`, which there is not."""
    await world.runtime.up(ALICE, await world.lodging())
    await change(world, "agent.toml", 'prompt = "new"\n')
    await world.runtime.up(ALICE, await world.lodging())
    updates = [words for words in world.host.calls() if words[0] in {"create", "update"}]
    assert [words[0] for words in updates] == ["create", "update"]
    assert all(words[words.index("--flake") + 1].endswith("#alice") for words in updates)


async def test_one_that_runs_as_it_should_is_left_alone_also_by_the_next_core(world: NixosWorld) -> None:
    lodging = await world.lodging()
    await world.runtime.up(ALICE, lodging)
    before = world.host.verbs()
    await world.runtime.up(ALICE, lodging)
    await world.runtime.aclose()
    successor = NixosContainerRuntime(world.paths, world.host.environ)
    await successor.check()
    await successor.sweep()
    await successor.up(ALICE, lodging)
    assert world.host.verbs() == before == ["create", "start"]
    await successor.aclose()


async def test_new_flags_limits_and_networks_take_a_restart_and_no_build(
    world: NixosWorld, tmp_path: Path
) -> None:
    await world.runtime.up(ALICE, await world.lodging())
    assert world.host.conf("alice")["PRIVATE_NETWORK"] == "1"
    assert world.host.conf("alice")["HOST_ADDRESS"] == ""
    (tmp_path / "code").mkdir()
    mount = MountSetting(source=str(tmp_path / "code"), target="/workspace/code")
    for more in ({"mounts": [mount]}, {"limits": ResourceLimits(memory=1 << 30), "network": "out"}):
        seen = len(world.host.verbs())
        assert await world.runtime.hand_over(ALICE, await world.lodging(**more)), "it waits for its start"
        assert world.host.verbs()[seen:] == []
        await world.runtime.up(ALICE, await world.lodging(**more))
        assert world.host.verbs()[seen:] == ["stop", "start"]
        assert not await world.runtime.hand_over(ALICE, await world.lodging(**more))
    assert world.host.conf("alice")["HOST_ADDRESS"] == "10.233.1.1"
    assert "EXTRA_NSPAWN_FLAGS" in world.host.conf("alice")


async def test_limits_are_a_drop_in_that_systemd_reads(world: NixosWorld) -> None:
    limits = ResourceLimits(memory=1 << 30, pids=99, cpu=0.5, disk=1 << 20)
    await world.runtime.up(ALICE, await world.lodging(limits=limits))
    drop_in = world.host.root / "run/systemd/system/container@alice.service.d/50-hyperhive.conf"
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]", "MemoryMax=1073741824", "MemorySwapMax=0", "TasksMax=99", "CPUQuota=50%", "LimitFSIZE=1048576",
    ]  # fmt: skip
    assert json.loads((world.host.root / "run/drop-ins.json").read_text()) == [
        str(drop_in.relative_to(world.host.root))
    ]


async def test_remove_leaves_nothing_of_the_runtime_and_keeps_the_state(world: NixosWorld) -> None:
    await world.runtime.up(ALICE, await world.lodging())
    (world.paths.agent_state(ALICE) / "note").write_text("kept")
    await world.runtime.remove(ALICE)
    await world.runtime.remove(ALICE)
    assert await world.status() == "gone"
    assert not list((world.host.root / "run/systemd/system").iterdir())
    assert "alice" not in (world.paths.meta / "flake/flake.nix").read_text()
    assert "alice" not in (world.paths.meta / "flake/flake.lock").read_text()
    assert (world.paths.agent_state(ALICE) / "note").read_text() == "kept"


@pytest.mark.parametrize("name", ["twelve-chars"])
async def test_a_name_that_no_container_can_bear_is_refused_before_anything_is_done(
    world: NixosWorld, name: str
) -> None:
    agent = parse_agent_name(name)
    lodging = await world.lodging()
    for verb in (
        world.runtime.admit(agent),
        world.runtime.build(agent, lodging),
        world.runtime.up(agent, lodging),
    ):
        with pytest.raises(InvalidName, match="at most 11"):
            await verb
    assert world.host.verbs() == []
    await world.runtime.admit(parse_agent_name("eleven-char"))


async def test_a_container_that_bears_another_mark_or_none_is_foreign_and_never_touched(
    world: NixosWorld, tmp_path: Path
) -> None:
    await anyio.to_thread.run_sync(world.host.run, "create", "alice", "--system-path", "/")
    lodging = await world.lodging()
    before = world.host.verbs()
    with pytest.raises(Conflict) as refused:
        await world.runtime.up(ALICE, lodging)
    assert refused.value.wire_code == "foreign"
    with pytest.raises(Conflict):
        await world.runtime.admit(ALICE)
    await world.runtime.release(ALICE)
    await world.runtime.remove(ALICE)
    assert world.host.verbs() == before
    async with other_hive(world, tmp_path) as other:
        bob = parse_agent_name("bob")
        await world.runtime.up(bob, await world.lodging(bob))
        with pytest.raises(Conflict):
            await other.admit(bob)
        await other.remove(bob)
        await other.keep_only([])
        assert await world.status("bob") == "up"
        odd = world.host.root / "etc/nixos-containers/Not_ours.conf"
        odd.write_bytes(b"\xff")
        await world.runtime.keep_only([bob])
        assert await world.status("bob") == "up"
        await world.runtime.keep_only([ALICE])
        assert await world.status("bob") == "down"
        odd.unlink()


async def test_a_create_that_fails_leaves_nothing_and_the_next_one_works(world: NixosWorld) -> None:
    lodging = await world.lodging()
    fake_nixos.set_fault(world.host.root, "build", "error: attribute 'nope' missing")
    with pytest.raises(WorldError, match="attribute 'nope' missing"):
        await world.runtime.up(ALICE, lodging)
    assert world.host.verbs() == ["create", "destroy"]
    assert not list(world.paths.meta.glob("flake*"))
    fake_nixos.set_fault(world.host.root, "build", None)
    await world.runtime.up(ALICE, lodging)
    assert await world.status() == "up"


async def test_one_that_a_crash_kept_from_being_marked_is_the_hives_own(world: NixosWorld) -> None:
    """Killed right behind `create`: the conf says whose flake it was made from."""
    lodging = await world.lodging()
    place = world.paths.meta / "flake.alice"
    await world.runtime.build(ALICE, lodging)
    await anyio.to_thread.run_sync(world.host.run, "create", "alice", "--flake", f"path:{place}#alice")
    assert "OWNED_BY_HIVE" not in world.host.conf("alice")
    await world.runtime.up(ALICE, lodging)
    assert await world.status() == "up"
    assert "OWNED_BY_HIVE" in world.host.conf("alice")


async def test_what_cannot_be_built_changes_nothing_of_what_runs(world: NixosWorld) -> None:
    await world.runtime.up(ALICE, await world.lodging())
    conf, flake = world.host.conf("alice"), (world.paths.meta / "flake/flake.nix").read_text()
    await change(world, "agent.toml", 'prompt = "new"\n')
    fake_nixos.set_fault(world.host.root, "build", "error: syntax error")
    lodging, before = await world.lodging(), world.host.verbs()
    with pytest.raises(WorldError, match="syntax error"):
        await world.runtime.build(ALICE, lodging)
    assert world.host.verbs() == before
    assert await world.status() == "up"
    assert (world.host.conf("alice"), (world.paths.meta / "flake/flake.nix").read_text()) == (conf, flake)
    assert not list(world.paths.meta.glob("flake.*"))


async def test_a_bump_stands_aside_until_the_container_runs_on_it(world: NixosWorld) -> None:
    first = await world.lodging()
    await world.runtime.up(ALICE, first)
    second = await change(world, "agent.toml", 'prompt = "new"\n')
    await world.runtime.build(ALICE, second)
    flake, aside = world.paths.meta / "flake/flake.nix", world.paths.meta / "flake.alice/flake.nix"
    assert str(first.commit) in flake.read_text()
    assert str(second.commit) in aside.read_text()
    await world.runtime.up(ALICE, second)
    assert str(second.commit) in flake.read_text()
    assert not aside.parent.exists()
    await world.runtime.up(ALICE, first)  # switched back
    assert str(first.commit) in flake.read_text()


async def test_two_agents_are_two_inputs_of_one_flake(world: NixosWorld) -> None:
    bob = parse_agent_name("bob")
    async with anyio.create_task_group() as tasks:
        for agent in (ALICE, bob):
            tasks.start_soon(world.runtime.up, agent, await world.lodging(agent))
    pins = json.loads((world.paths.meta / "flake/pins.json").read_text())
    assert set(pins) == {"alice", "bob"}
    text = (world.paths.meta / "flake/flake.nix").read_text()
    assert text.count("rev = ") == 2
    assert await world.status("alice") == await world.status("bob") == "up"


async def test_a_bump_of_what_all_share_leaves_what_runs_alone_until_it_is_started_anew(
    world: NixosWorld,
) -> None:
    lodging, inputs = await world.lodging(), world.runtime.inputs
    await world.runtime.up(ALICE, lodging)
    (world.host.root / "inputs").mkdir()
    (world.host.root / "inputs/nixpkgs").write_text("2")
    assert await inputs.prepare(["nixpkgs"]) == ["hyperhive/nixpkgs: 1 -> 2"]
    await inputs.build()
    assert await inputs.finalize() == [ALICE]
    assert inputs.outdated(ALICE)
    before = world.host.verbs()
    await world.runtime.up(ALICE, lodging)
    successor = NixosContainerRuntime(world.paths, world.host.environ)
    await successor.check()
    assert not successor.inputs.outdated(ALICE)
    await successor.up(ALICE, lodging)
    assert world.host.verbs() == before, "a core that comes back ends no turn for it"
    assert successor.inputs.outdated(ALICE)
    await successor.release(ALICE)
    await successor.up(ALICE, lodging)
    assert world.host.verbs()[len(before) :] == ["stop", "update", "start"]
    assert not successor.inputs.outdated(ALICE)
    seen = len(world.host.verbs())
    await successor.release(ALICE)
    await successor.up(ALICE, lodging)
    assert world.host.verbs()[seen:] == ["stop", "start"]
    await successor.aclose()


LATER = pytest.mark.campaign


@pytest.mark.parametrize(
    "verb", ["start", "update", pytest.param("status", marks=LATER), pytest.param("stop", marks=LATER)]
)
async def test_a_verb_that_fails_is_told_and_the_next_up_mends_it(world: NixosWorld, verb: str) -> None:
    await world.runtime.up(ALICE, await world.lodging())
    second = await change(world, "agent.toml", 'prompt = "new"\n')
    fake_nixos.set_fault(world.host.root, verb, "out of luck", 25)
    with pytest.raises(WorldError, match="out of luck"):
        await world.runtime.up(ALICE, second)
    fake_nixos.set_fault(world.host.root, verb, None)
    await world.runtime.up(ALICE, second)
    assert await world.status() == "up"
    assert str(second.commit) in (world.paths.meta / "flake/flake.nix").read_text()


async def test_a_path_that_nspawns_flags_cannot_hold_is_refused_and_nothing_changes(
    world: NixosWorld, tmp_path: Path
) -> None:
    await world.runtime.up(ALICE, await world.lodging())
    for odd in ("two words", "a:b"):
        (tmp_path / odd).mkdir()
        mount = MountSetting(source=str(tmp_path / odd), target="/workspace/code")
        lodging, before = await world.lodging(mounts=[mount]), world.host.verbs()
        for work in (world.runtime.build, world.runtime.up):
            with pytest.raises(BadConfig, match="cannot be shown in a NixOS container"):
                await work(ALICE, lodging)
        assert world.host.verbs() == before
    assert await world.status() == "up"


async def test_only_directories_are_bound(world: NixosWorld) -> None:
    """A socket's file changes when the core restarts; a directory that is bound shows the new one."""
    manager_lodging = await world.lodging(MANAGER)
    await world.runtime.up(MANAGER, manager_lodging)
    flags = world.host.conf("manager")["EXTRA_NSPAWN_FLAGS"].split()
    sources = [Path(flag.partition("=")[2].partition(":")[0]) for flag in flags]
    assert all(source.is_dir() for source in sources)
    targets = {flag.rpartition(":")[2]: flag.partition("=")[0] for flag in flags}
    assert targets["/agents"] == "--bind"
    assert targets["/applied"] == "--bind-ro"
    assert "/run/hive-harness" in targets


async def test_what_the_harness_reads_holds_its_own_agent_alone(world: NixosWorld) -> None:
    config = msgspec.convert({"prompt": 'odd "\\ \n \x7f ü', "env": {"A": "b"}, "mounts": []}, AgentConfig)
    file = HiveFile(agents={"bob": AgentConfig(prompt="secret")}, stuck_seconds=7.0)
    lodging = await world.lodging()
    await world.runtime.up(ALICE, replace(lodging, config=config, file=file))
    text = (world.paths.harness_dir(ALICE) / "hive.toml").read_text()
    assert "secret" not in text
    told = parse_hive_file(text)
    assert told.agents == {"alice": config}
    assert told.stuck_seconds == 7.0


async def test_without_the_programs_or_root_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="nixos-container"):
        await NixosContainerRuntime(Paths.of(tmp_path), {"PATH": "/usr/bin:/bin"}).check()
    host = FakeHost.make(tmp_path)
    with pytest.raises(BadConfig, match="cannot be shown"):
        await NixosContainerRuntime(Paths.of(tmp_path / "two words"), host.environ).check()


# --- what they use --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def other_hive(world: NixosWorld, tmp_path: Path) -> AsyncIterator[NixosContainerRuntime]:
    """Another hive on the same machine."""
    paths = Paths.of(tmp_path / "other")
    paths.make_hive()
    runtime = NixosContainerRuntime(paths, world.host.environ)
    await runtime.check()
    yield runtime
    await runtime.aclose()


async def change(world: NixosWorld, name: str, text: str) -> Lodging:
    """The agent's applied main moves on to a commit with this file; gives what it would run with then."""
    repo = str(world.paths.applied_repo(ALICE))

    async def git(*words: str, stdin: bytes = b"") -> str:
        env = {
            "PATH": "/usr/bin:/bin", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@t", "GIT_INDEX_FILE": f"{repo}/index.test",
        }  # fmt: skip
        done = await anyio.run_process(["git", f"--git-dir={repo}", *words], input=stdin, env=env)
        return done.stdout.decode().strip()

    blob = await git("hash-object", "-w", "--stdin", stdin=text.encode())
    await git("read-tree", "main")
    await git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    commit = await git("commit-tree", "-p", "main", "-m", "change", await git("write-tree"))
    await git("update-ref", "refs/heads/main", commit)
    return await world.lodging()


@pytest.mark.parametrize(
    "odd", ["per%cent", 'quo"te', "new\nline", "dollar$HOME", "tick`", "semi;colon", "back\\slash"]
)
def test_no_path_with_a_meaning_of_its_own_gets_into_flags_or_flakes(odd: str) -> None:
    with pytest.raises(BadConfig):
        Bind(Path("/srv") / odd, "/workspace/x").flag  # noqa: B018 - it raises
    with pytest.raises(BadConfig):
        check_plain(Path("/srv") / odd)
    assert (
        Bind(Path("/srv/a-b_c.d+e@f"), "/workspace/x", writable=True).flag
        == "--bind=/srv/a-b_c.d+e@f:/workspace/x"
    )


async def test_what_a_containers_harness_wrote_last_can_be_asked_for_also_when_it_is_down(
    tmp_path: Path,
) -> None:
    async with NixosWorld.open(
        tmp_path, init=["sh", "-c", "echo one; echo two; echo three; sleep 1000"]
    ) as world:
        await world.runtime.up(ALICE, await world.lodging())
        log = world.host.root / "run/alice.log"
        with anyio.fail_after(20):
            while "three" not in log.read_text():  # noqa: ASYNC110 - nobody tells of what is written
                await anyio.sleep(0.02)
        await world.runtime.release(ALICE)
        tail = await world.runtime.log_tail(ALICE, 3)
        # The shell may have told of its own end, too.
        assert [line for line in tail if line != "Terminated"][-2:] == ["two", "three"]
        fake_nixos.set_fault(world.host.root, "journalctl", "no journal files were found")
        assert "no journal files" in (await world.runtime.log_tail(ALICE, 2))[0]
