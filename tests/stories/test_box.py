"""What a Bash tool call of the real agent CLI can see and do in its bubblewrap box, in a hive that runs."""

import os
import subprocess
from collections.abc import Callable

import pytest

from hive_process import HivePlace, HiveProcess, running
from hyperhive.client import RemoteHive
from hyperhive.protocol.types import Mount
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import CLEAN_ENV
from story import bash

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

CANARY = "canary-of-the-operator"

LOOK = """
echo uid $(id -u)
ls -d {paths} 2>/dev/null
find / \\( -path /proc -o -path /usr -o -path /sys \\) -prune -o -name 'hive.sqlite*' -print 2>/dev/null
find / \\( -path /proc -o -path /usr -o -path /sys \\) -prune -o -name 'h*.sock' -print 2>/dev/null
find / \\( -path /proc -o -path /usr -o -path /sys \\) -prune -o -name note -print 2>/dev/null
cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -e OPERATORS_OWN -e {canary} -e {state}
echo agents: $(ls /agents)
echo sockets: $(find /run -type s)
"""


async def told_to(
    command: str,
    place: HivePlace,
    hive: HiveProcess,
    client: RemoteHive,
    api: FakeAnthropic,
    to: str = "alice",
) -> str:
    """What the agent's Bash said to this command."""
    api.scenario = {"rules": [tool_turn(r"\nrun it\n", bash(command), end="ran")]}
    before = len(api.requests)
    await client.broker.send("operator", to, "run it")
    await hive.until(lambda: all(one.acked for one in place.mail() if one.recipient != "operator"))
    results = [one["tool_result"] for one in api.requests[before:] if one["round"] == 1]
    assert len(results) == 1
    return str(results[0])


async def test_the_hive_other_agents_the_admin_socket_and_the_operator_cannot_be_seen(
    places: NewPlace, api: FakeAnthropic
) -> None:
    place = places(environ={"OPERATORS_OWN": CANARY})
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.lifecycle.spawn("bob")
        assert (
            await told_to("echo secret of bob > /state/note; echo kept", place, hive, client, api, "bob")
            == "kept"
        )
        hive_paths = f"{place.root} {place.state} {place.run} {place.run}/host.sock"
        look = LOOK.format(paths=hive_paths, canary=CANARY, state=place.state)
        seen = await told_to(look, place, hive, client, api)
        inside = place.state / "agents" / "bob" / "state" / "note"
        assert inside.read_text() == "secret of bob\n", "the file that was looked for is there, elsewhere"
        assert (place.run / "host.sock").exists()
    assert seen.splitlines() == [
        "uid 1000",
        "agents: alice",
        "sockets: /run/hive/mcp.sock /run/hive/model.sock",
    ]


async def test_whoever_reaches_for_the_admin_socket_by_its_path_finds_none(
    places: NewPlace, api: FakeAnthropic
) -> None:
    place = places()
    connect = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('in')"
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        for socket in (
            place.run / "host.sock",
            place.run / "manager" / "mcp.sock",
            place.state / "hive.sqlite",
        ):
            said = await told_to(f'python3 -c "{connect}" {socket} 2>&1 | tail -1', place, hive, client, api)
            assert said.startswith("FileNotFoundError"), said


async def test_an_agent_edits_and_commits_in_a_repository_of_the_operators(
    places: NewPlace, api: FakeAnthropic
) -> None:
    place = places()
    repo = place.root / "code"
    _git("init", "-q", "-b", "main", str(repo))
    (repo / "parser.py").write_text("x = 1\n")
    _git("-C", str(repo), "add", "parser.py")
    _git("-C", str(repo), "-c", "user.name=op", "-c", "user.email=op@example.org", "commit", "-qm", "first")
    work = (
        "cd /workspace/code && sed -i s/1/2/ parser.py && git commit -qam 'count to two'"
        " && git log -1 --format='%an: %s' && git status --porcelain"
    )
    async with running(place) as (hive, client):
        await client.lifecycle.spawn(
            "alice", mounts=[Mount(source=str(repo), target="/workspace/code", mode="rw")]
        )
        said = await told_to(work, place, hive, client, api)
        assert said.splitlines()[0] == "alice: count to two"
        status = await client.lifecycle.status("alice")
        assert any(str(repo) in mount for mount in status.agents[0].mounts)
        refused = await told_to(
            "touch /workspace/new; git -C /workspace/code push nowhere", place, hive, client, api
        )
    assert "Read-only file system" in refused
    assert (repo / "parser.py").read_text() == "x = 2\n"
    assert _git("-C", str(repo), "log", "--format=%an: %s") == "alice: count to two\nop: first\n"
    assert (repo / "parser.py").stat().st_uid == os.geteuid()


async def test_a_mount_to_read_cannot_be_written(places: NewPlace, api: FakeAnthropic) -> None:
    place = places()
    (place.root / "notes").mkdir()
    (place.root / "notes" / "a").write_text("old\n")
    async with running(place) as (hive, client):
        await client.lifecycle.spawn(
            "alice", mounts=[Mount(source=f"{place.root}/notes", target="/workspace/notes")]
        )
        said = await told_to(
            "cat /workspace/notes/a; echo new > /workspace/notes/a", place, hive, client, api
        )
    assert said.startswith("old") or "old" in said
    assert "Read-only file system" in said
    assert (place.root / "notes" / "a").read_text() == "old\n"


def _git(*words: str) -> str:
    env = {**CLEAN_ENV, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(["git", *words], env=env, check=True, capture_output=True, text=True)
    return done.stdout
