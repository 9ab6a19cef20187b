"""A hive on the fake NixOS machine: each agent's harness and real CLI in a container of its own, the core outside.

The containers are boxes with the binds that the hive asked `nixos-container` for; nothing is built for them by Nix.
A key account, so the model is reached by the gateway's socket in the container.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hyperhive
from config_stage import Stage, last_request
from hive_process import HivePlace, Json, running
from hyperhive.errors import InvalidName
from hyperhive.testing import fake_nixos
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from nixos_world import FakeHost
from parts import claude_path
from story import bash, send

NewPlace = Callable[..., HivePlace]

pytestmark = [
    pytest.mark.needs("claude"),
    pytest.mark.needs("bwrap"),
    pytest.mark.needs("root"),
    pytest.mark.needs("git"),
    pytest.mark.timeout(180),
    pytest.mark.may_block("the machine is asked between requests"),
]

SERVE = 'exec "$0" -m hyperhive.cli agent serve "$INSTANCE" --socket /run/hive-harness/harness.sock'
LOOK = (
    "id -u; echo kept > /state/note; ls -d /run/hive-harness/* /var/lib/hive-harness/* 2>&1 | grep -c denied"
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FakeHost]:
    """What nix/modules/harness.nix makes of a container: the harness's unit, with its environment."""
    env = {
        "HYPERHIVE_INSIDE": "nixos-container", "HYPERHIVE_CONFIG": "/run/hive-harness/hive.toml",
        "HYPERHIVE_STATE_DIR": "/var/lib/hive-harness", "HYPERHIVE_RUN_DIR": "/run/hive-harness",
        "HYPERHIVE_CLAUDE": str(claude_path("2.1.328")), "HOME": "/var/lib/hive-harness",
        "PYTHONPATH": str(Path(hyperhive.__file__).parents[1]), "PATH": "/usr/local/bin:/usr/bin:/bin",
        "CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }  # fmt: skip
    host = FakeHost.make(tmp_path, ["sh", "-c", SERVE, sys.executable], env)
    yield host
    host.close()


async def test_agents_live_in_containers_through_turns_a_restart_of_the_core_and_a_removal(
    places: NewPlace, api: FakeAnthropic, machine: FakeHost
) -> None:
    place = places(runtime="nixos-container", environ=machine.environ)
    rules: list[Json] = [
        tool_turn(r"\nlook\n", bash(LOOK), send("operator", "looked"), end="ran"),
        tool_turn(r"\nsay again\n", send("operator", "again"), end="said"),
    ]
    api.scenario = {"rules": rules}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "look")
        await hive.until(lambda: any(one.body == "looked" for one in place.mail()))
        view = (await client.lifecycle.status("alice")).agents[0].view
        assert (view.isolation, view.network) == ("nixos-container", "none")
        with pytest.raises(InvalidName):
            await client.lifecycle.spawn("twelve-chars")
        os.kill(hive.pid, signal.SIGKILL)
        await hive.process.wait()
    assert (place.state / "agents/alice/state/note").read_text() == "kept\n"
    # The core is gone. The agents are not, and the next core finds them as they are.
    assert machine.run("status", "alice").stdout == "up\n", machine.said("alice")
    before = machine.verbs()
    async with running(place) as (hive, client):
        await client.broker.send("operator", "alice", "say again")
        await hive.until(lambda: any(one.body == "again" for one in place.mail()))
        assert machine.verbs() == before
        await client.lifecycle.stop("alice")
        assert machine.run("status", "alice").stdout == "down\n"
        await client.lifecycle.destroy("alice")
        assert machine.run("list").stdout == "manager\n"
        await client.lifecycle.spawn("alice")
        assert (place.state / "agents/alice/state/note").read_text() == "kept\n"
    results = [str(one["tool_result"]).split() for one in api.requests if one["round"] == 1]
    assert results[0] == ["58371", "2"]


async def test_what_was_approved_runs_in_the_container_and_what_cannot_be_built_changes_nothing(
    places: NewPlace, api: FakeAnthropic, machine: FakeHost
) -> None:
    api.scenario = {"rules": [tool_turn(r"\nsay one\n", send("operator", "one"), end="said")]}
    place = places(runtime="nixos-container", environ=machine.environ, toml="up_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")

        async def deploy(text: str) -> tuple[str, str | None]:
            done = await stage.approve(await stage.propose("alice", text))
            return done["stage"], done.get("note")

        before = machine.conf("alice")["OWNED_BUILT_FROM"]
        assert await deploy('model = "sonnet"\npackages = ["ripgrep"]\n') == ("deployed", None)
        good = machine.conf("alice")["OWNED_BUILT_FROM"]
        assert good != before
        fake_nixos.set_fault(machine.root, "build", "error: nixpkgs has no no-such")
        seen = machine.verbs()
        ended, note = await deploy('packages = ["no-such"]\n')
        assert (ended, "nixpkgs has no no-such" in str(note)) == ("failed", True)
        assert machine.verbs() == seen
        fake_nixos.set_fault(machine.root, "build", None)
        await client.broker.send("operator", "alice", "say one")
        await hive.until(lambda: any(one.body == "one" for one in place.mail()))
        assert machine.conf("alice")["OWNED_BUILT_FROM"] == good
    assert "sonnet" in last_request(api, "one")["model"]
