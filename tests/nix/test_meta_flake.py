"""The hive's flake on real Nix: locked, evaluated and built from real config repos; what approved text cannot do."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from hyperhive.errors import BadConfig
from hyperhive.lifecycle.runtimes.nixos_container import NO_IMPORT
from hyperhive.lifecycle.runtimes.nixos_flake import MetaFlake, Pin, flake_text, lock_faults, without
from hyperhive.names import AgentName, parse_agent_name
from nix_runs import NIX, run

pytestmark = [pytest.mark.needs("nix"), pytest.mark.needs("git")]

ALICE, BOB = parse_agent_name("alice"), parse_agent_name("bob")
SYSTEM = 'nixosConfigurations."%s".config.system.build.toplevel'

# What nix/flake.nix gives, with a system that is one small derivation: there is no nixpkgs here.
STAND_IN = """
{ outputs = { self }: { lib.containers = import ./lib/containers.nix {
    harness = "harness"; agent = "agent"; manager = "manager";
    nixosSystem = given: let
      own = builtins.filter (module: builtins.match ".*/agent.nix" (toString module) != null) given.modules;
      extra = if own == [ ] then "" else import (builtins.head own) { inherit (given.specialArgs) flakeInputs; };
    in { config.system.build.toplevel = derivation {
      name = "system"; inherit (given) system; builder = "/bin/sh";
      args = [ "-c" "echo \\"$said\\" > $out" ];
      said = let me = given.specialArgs.hyperhiveAgent; in "${me.name} ${toString me.toml.model} ${extra}";
    }; };
  }; };
}
"""


class World:
    """Config repos, a stand-in for HyperHive's own flake, and the hive's flake over both."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.applied = root / "applied"
        (root / "home").mkdir()
        (root / "meta").mkdir()
        (root / "own/lib").mkdir(parents=True)
        (root / "own/flake.nix").write_text(STAND_IN)
        for file in (NIX / "lib").iterdir():
            (root / "own/lib" / file.name).write_text(file.read_text())
        self.flake = MetaFlake(root / "meta", self.applied, f"path:{root}/own")

    def git(self, agent: str, *words: str, stdin: str = "") -> str:
        env = {
            "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        }  # fmt: skip
        done = subprocess.run(
            ["git", f"--git-dir={self.applied / agent}", *words],
            input=stdin, capture_output=True, text=True, check=True, env=env,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, agent: str, files: dict[str, str], tag: str = "") -> Pin:
        """A commit with these files; on main, or under the tag alone."""
        if not (self.applied / agent).exists():
            (self.applied / agent).mkdir(parents=True)
            self.git(agent, "init", "-q", "--bare", "-b", "main")
        blobs = {
            name: self.git(agent, "hash-object", "-w", "--stdin", stdin=text) for name, text in files.items()
        }
        listing = "".join(f"100644 blob {blob}\t{name}\n" for name, blob in sorted(blobs.items()))
        commit = self.git(agent, "commit-tree", "-m", "c", self.git(agent, "mktree", stdin=listing))
        self.git(agent, "update-ref", f"refs/tags/{tag}" if tag else "refs/heads/main", commit)
        return Pin(commit, flake="flake.nix" in files)

    def nix(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.root / "home", "nix", *words)

    def built(self, place: Path, agent: str) -> str:
        """What the system built from the flake there says."""
        done = self.nix(
            "build",
            "--no-link",
            "--json",
            *NO_IMPORT,
            f"path:{place}#{SYSTEM % agent}",
        )
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)[0]["outputs"]["out"]).read_text().strip()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_agent_is_an_input_at_its_commit_and_a_bump_touches_one_alone(world: World) -> None:
    for agent in (ALICE, BOB):
        world.flake.prepare(agent, world.commit(agent, {"agent.toml": f'model = "{agent}-1"\n'}))
        assert world.built(world.flake.aside(agent), agent) == f"{agent} {agent}-1"
        world.flake.finalize(agent)
    before = json.loads((world.flake.directory / "flake.lock").read_text())
    # a proposal is on no branch yet: its tag keeps it
    place = world.flake.prepare(
        ALICE, world.commit(ALICE, {"agent.toml": 'model = "alice-2"\n'}, tag="proposal/1")
    )
    assert world.built(place, ALICE) == "alice alice-2"
    assert world.built(world.flake.directory, ALICE) == "alice alice-1"
    world.flake.finalize(ALICE)
    assert world.built(world.flake.directory, ALICE) == "alice alice-2"
    after = json.loads((world.flake.directory / "flake.lock").read_text())
    changed = [key for key in after["nodes"] if after["nodes"][key] != before["nodes"].get(key)]
    assert changed == ["agent-alice"]
    assert "narHash" in after["nodes"]["agent-alice"]["locked"]


def test_an_abort_or_a_finalize_beside_another_loses_nothing(world: World) -> None:
    pins = {agent: world.commit(agent, {"agent.toml": 'model = "1"\n'}) for agent in (ALICE, BOB)}
    for agent, pin in pins.items():
        world.flake.prepare(agent, pin)
        world.nix("flake", "lock", f"path:{world.flake.aside(agent)}")
    world.flake.abort(BOB)
    world.flake.finalize(BOB)  # nothing is prepared any more
    assert not world.flake.directory.exists()
    world.flake.prepare(BOB, pins[BOB])
    for agent in pins:
        world.flake.finalize(agent)
    assert set(world.flake.pins()) == {"alice", "bob"}
    assert world.built(world.flake.directory, ALICE) == "alice 1"
    world.flake.remove(BOB)
    assert set(world.flake.pins()) == {"alice"}
    assert "bob" not in (world.flake.directory / "flake.lock").read_text()
    assert world.built(world.flake.directory, ALICE) == "alice 1"


def test_inputs_of_an_agents_own_flake_reach_its_module(world: World) -> None:
    (world.root / "tool").mkdir()
    (world.root / "tool/flake.nix").write_text('{ outputs = _: { word = "from the input"; }; }')
    files = {
        "flake.nix": f'{{ inputs.tool.url = "path:{world.root}/tool"; outputs = _: {{ }}; }}',
        "agent.nix": "{ flakeInputs, ... }: flakeInputs.tool.word",
    }
    place = world.flake.prepare(ALICE, world.commit(ALICE, files))
    assert world.built(place, ALICE) == "alice  from the input"
    # which the hive does not allow: the place is on this machine
    lock = json.loads((place / "flake.lock").read_text())
    assert [fault.partition(":")[2] for fault in lock_faults(lock, ALICE)] == [
        f" input tool: comes from {world.root}/tool: only https, github, gitlab and sourcehut may be used"
    ]
    assert lock_faults(lock, BOB) == []


def test_what_cannot_be_evaluated_says_why_and_where(world: World) -> None:
    place = world.flake.prepare(ALICE, world.commit(ALICE, {"agent.toml": "packages = [3]\n"}))
    done = world.nix("build", "--no-link", f"path:{place}#{SYSTEM % ALICE}")
    assert done.returncode != 0
    assert "alice: agent.toml.packages[0]: is a int, not a string" in done.stderr


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ('builtins.readFile "%s/secret"', "pure eval"),
        ('toString (import "%s/secret.nix")', "pure eval"),
        ('builtins.readFile (builtins.fetchurl "file://%s/secret")', "pure eval"),
        ('toString (builtins.fetchGit "file://%s/applied/bob")', "pure eval"),
        ('builtins.getEnv "CANARY" + builtins.throw "empty"', "empty"),
        (
            """builtins.readFile (derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh";
            args = [ "-c" "cat %s/secret > $out" ]; })""",
            "import-from-derivation",
        ),
    ],
)
def test_approved_text_reads_nothing_of_the_machine_and_runs_nothing_while_it_is_evaluated(
    world: World, expression: str, reason: str
) -> None:
    (world.root / "secret").write_text("CANARY")
    (world.root / "secret.nix").write_text('"CANARY"')
    world.commit(BOB, {"agent.toml": ""})
    text = "{ flakeInputs, ... }: " + expression.replace("%s", str(world.root))
    place = world.flake.prepare(ALICE, world.commit(ALICE, {"agent.nix": text}))
    done = world.nix("build", "--no-link", "--json", *NO_IMPORT, f"path:{place}#{SYSTEM % ALICE}")
    assert done.returncode != 0
    assert reason in done.stderr
    assert "CANARY" not in done.stdout


def test_what_would_need_quoting_is_refused() -> None:
    pin = {"alice": Pin("0" * 40)}
    for hyperhive, applied, pins in (
        ('x"; evil = "', "/applied", pin),
        ("path:/x", '/app"lied', pin),
        ("path:/x", "/two words", pin),
        ("path:/x", "/applied", {"alice": Pin("main")}),
        ("path:/x", "/applied", {"alice": Pin("0" * 39 + "G")}),
    ):
        with pytest.raises(BadConfig):
            flake_text(hyperhive, Path(applied), pins)
    assert "agents = {\n      }" in flake_text("path:/x", Path("/applied"), {})


def test_locks_that_are_damaged_or_not_complete_are_faults_and_no_crash() -> None:
    several: list[object] = [None, [], {"nodes": 3}, {}]
    for damaged in several:
        assert lock_faults(damaged, "alice") == ["flake.lock: has no nodes"]
    lock: dict[str, object] = {
        "nodes": {
            "root": {"inputs": {"agent-alice": "agent-alice_2"}},
            "agent-alice_2": {"inputs": {"a": "a", "b": "b", "c": ["agent-alice", "a"], "d": "gone"}},
            "a": {"locked": {"type": "github", "owner": "o"}, "inputs": {"deep": "deep"}},
            "b": {"locked": {"type": "git", "url": "ssh://x"}},
            "deep": {"locked": {"type": "tarball", "url": "http://plain"}},
        }
    }
    faults = lock_faults(lock, "alice")
    assert [fault.split(":")[1] for fault in faults] == [" input b", " input d", " input deep"]
    assert "agent-alice_2" not in str(without(lock, AgentName("alice")))
