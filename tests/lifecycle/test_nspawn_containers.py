"""Agents' own nspawn containers, with their harness in them: real ones, as root."""

import contextlib
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from box_probe import POWERLESS, PROBE, lines
from hyperhive.config import MountSetting, Network
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.runtimes import NspawnRuntime, ResourceLimits, pick_runtime
from hyperhive.lifecycle.runtimes import nspawn_lodging as lodgings
from hyperhive.lifecycle.runtimes.nspawn_containers import LOG_KEPT
from hyperhive.names import AgentName
from nspawn_world import ALICE, NspawnWorld

BOB = AgentName("bob")

pytestmark = [
    pytest.mark.needs("nspawn"),
    pytest.mark.may_block("the test looks at files and processes between actions"),
]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NspawnWorld]:
    async with NspawnWorld.open(tmp_path, monkeypatch) as world:
        yield world


async def test_what_the_harness_starts_in_its_container_behaves_as_in_a_box(world: NspawnWorld) -> None:
    said = await world.inside()
    assert "failed: []" in said, said
    # On the machine nothing changed hands, whoever wrote it in there.
    assert (world.paths.agent_state(ALICE) / "x").stat().st_uid == 0


GOLDEN = f"""\
{POWERLESS}\
uid 58371 gid 58371 groups 58371 agent alice umask 0022
sys /run/host:  /sys:
cgroup /
dev char fd full mqueue net null ptmx pts random shm stderr stdin stdout tty urandom zero
processes (sd-stubinit) python python sh
writable /state /claude /tmp /var/tmp /dev/shm
mounts / /agents/alice/config /claude /etc /etc/group /etc/hosts /etc/nsswitch.conf /etc/passwd /etc/resolv.conf \
/opt /run /run/hive /run/hive-files /run/hive-files/claude /run/hive-harness /state /tmp /usr /var /var/tmp
nodes
passwd root nobody agent
shadow /etc/shadow
"""


async def test_a_probe_finds_nothing_to_escape_by(world: NspawnWorld) -> None:
    """No more than in a box but its harness's process; the list is written down whole.

    What is mounted in the harness's own root is left out: nothing of that can be reached.
    """
    said = re.sub(r"/run/hive-harness/\S+ ?", "", await world.inside(PROBE))
    said = re.sub(r"\bpython[0-9.]+ ", "python ", said)  # as whoever runs this calls it
    assert lines(said) == GOLDEN.splitlines()


async def test_calls_for_namespaces_mounts_and_keys_are_refused(world: NspawnWorld) -> None:
    said = await world.inside("""
for cmd in 'unshare -U true' 'unshare -m true' 'mount -t tmpfs x /tmp' 'mount -o remount,rw /usr' 'umount /sys' \
  'mknod /tmp/sda b 8 0' 'chroot /state true' 'hostname other' 'setpriv --reuid 0 true' 'chown 0 /state' \
  'cat /proc/1/environ' 'cat /proc/2/environ' 'cat /proc/2/maps' 'ls /proc/2/fd' 'ls /proc/2/root' \
  'ls /run/hive-harness' 'kill -0 1' 'kill -0 2' 'touch /run/hive/x' 'touch /run/hive-files/x' \
  'touch /agents/alice/config/x'; do
  $cmd >/dev/null 2>&1 && echo "$cmd"; done; echo done""")
    assert said == "done\n"


async def test_a_container_is_found_again_by_any_core_and_goes_on_until_something_of_it_changed(
    world: NspawnWorld, tmp_path: Path
) -> None:
    """Also by one that nobody told of it; another hive's sweep spares it, as its own core's does.

    Whoever only hands settings over is told where a container waits for its next start to take them all.
    """
    world.instead("-c", "import time; time.sleep(1000)")
    world.paths.make_agent(ALICE)
    await world.runtime.up(ALICE, world.lodging())
    first = world.harness(ALICE)
    await world.runtime.sweep()
    await world.runtime.aclose()
    next_core = await pick_runtime("nspawn", world.paths, world.environ)
    assert isinstance(next_core, NspawnRuntime)
    assert not await next_core.build(ALICE, world.lodging())
    assert not await next_core.up(ALICE, world.lodging())
    assert not await next_core.hand_over(ALICE, world.lodging())
    assert world.harness(ALICE) == first
    newer = str(shutil.copy(world.environ["HYPERHIVE_CLAUDE"], tmp_path / "newer"))
    with_newer = await pick_runtime("nspawn", world.paths, {**world.environ, "HYPERHIVE_CLAUDE": newer})
    assert isinstance(with_newer, NspawnRuntime)
    assert await with_newer.up(ALICE, world.lodging()), "it goes on with the older agent CLI"
    assert await with_newer.hand_over(ALICE, world.lodging())
    more = world.lodging(limits=ResourceLimits(pids=300))
    assert await next_core.build(ALICE, more)
    assert await next_core.hand_over(ALICE, more), "it waits"
    bad = world.lodging(mounts=(MountSetting(source="/nowhere/at/all", target="/workspace/x"),))
    assert await next_core.hand_over(ALICE, bad)
    assert world.harness(ALICE) == first
    await next_core.up(ALICE, more)
    assert not await next_core.hand_over(ALICE, more)
    assert world.harness(ALICE) != first
    await next_core.release(ALICE)
    assert world.processes(ALICE) == []
    await next_core.release(ALICE)
    await next_core.aclose()


async def test_a_log_that_has_grown_is_trimmed_while_its_harness_writes_on(world: NspawnWorld) -> None:
    write = "import sys, time\nfor n in iter(int, 1): print('x' * 99, flush=True); time.sleep(0.01)"
    world.instead("-c", write)
    world.paths.make_agent(ALICE)
    await world.runtime.up(ALICE, world.lodging())
    log = world.runtime.containers.log(ALICE)
    older = log.with_suffix(".log.1")
    with anyio.fail_after(30):
        while log.stat().st_size < 1000:
            await anyio.lowlevel.checkpoint()
    await world.runtime.trim_logs()
    assert not older.exists()
    with log.open("a") as file:
        file.write("y" * 99 + "\n" + ("z" * 99 + "\n") * (2 * LOG_KEPT // 100))
    await world.runtime.trim_logs()
    assert older.stat().st_size <= LOG_KEPT
    assert older.stat().st_mode & 0o777 == 0o600
    assert {line[:1] for line in older.read_text().splitlines()} <= {"z", "x"}
    with anyio.fail_after(30):
        while not log.read_text().startswith("x" * 99 + "\n"):
            await anyio.lowlevel.checkpoint()
    assert log.stat().st_size < LOG_KEPT
    assert (await world.runtime.log_tail(ALICE, 1)) == ["x" * 99]


async def test_of_a_hives_containers_only_those_are_kept_that_it_names(
    world: NspawnWorld, tmp_path: Path
) -> None:
    """Whatever a core's predecessor left, and nothing of another hive's; nobody has a list of them."""
    world.instead("-c", "import time; time.sleep(1000)")
    async with NspawnWorld.open(tmp_path / "other", world.patch) as other:
        for one, agent in ((world, ALICE), (world, BOB), (other, BOB)):
            one.paths.make_agent(agent)
            await one.runtime.up(agent, one.lodging())
        kept = world.harness(ALICE), other.harness(BOB)
        next_core = await pick_runtime("nspawn", world.paths, world.environ)
        assert isinstance(next_core, NspawnRuntime)
        await next_core.keep_only([ALICE])
        assert world.processes(BOB) == []
        assert (world.harness(ALICE), other.harness(BOB)) == kept
        await next_core.keep_only([])
        assert world.processes(ALICE) == []
        hive = next_core.containers.limiter.hive
        assert traces(hive, world.paths.run_dir) == []
        assert other.harness(BOB) == kept[1]
        await next_core.aclose()


def traces(hive: str, run_dir: Path) -> list[Path]:
    # other tests' groups come and go meanwhile: pathlib would stumble over those
    walk = os.walk("/sys/fs/cgroup")
    groups = [Path(place, name) for place, below, _ in walk for name in below if hive in name]
    return [*groups, *(run_dir / "nspawn" / hive).iterdir()]


@pytest.mark.parametrize("which", ["keeper", "nspawn", "harness"])
async def test_whatever_of_a_container_is_killed_all_of_it_ends(world: NspawnWorld, which: str) -> None:
    world.instead("-c", "import time; time.sleep(1000)")
    world.paths.make_agent(ALICE)
    await world.runtime.up(ALICE, world.lodging())
    keeper = world.keeper(ALICE)
    os.kill(
        {"keeper": keeper, "nspawn": world.nspawn(ALICE), "harness": world.harness(ALICE)}[which],
        signal.SIGKILL,
    )
    with anyio.fail_after(20):
        while world.processes(ALICE):  # noqa: ASYNC110 - nobody tells of the end of another's child
            await anyio.sleep(0.02)
    assert await world.started_as(ALICE) is None


async def test_a_harness_that_cannot_be_started_leaves_nothing_and_says_why(world: NspawnWorld) -> None:
    world.patch.setattr(lodgings, "harness_command", lambda _: ["/nowhere/python"])
    world.paths.make_agent(ALICE)
    with pytest.raises(MissingPart, match="alice cannot be run"):
        await world.runtime.up(ALICE, world.lodging())
    assert world.processes(ALICE) == []


async def test_memory_and_tasks_are_limited_for_all_of_a_container(world: NspawnWorld) -> None:
    """Where the runtime says so. Its harness counts as well."""
    bomb = "i=0; while [ $i -lt 80 ]; do sleep 9 & i=$((i+1)); done; echo all"
    big = "dd if=/dev/zero of=/dev/null bs=900M count=1 status=none && echo all"
    for name, script in (("pids", bomb), ("memory", big)):
        if name not in world.runtime.unenforced:
            said = await world.inside(script, limits=ResourceLimits(pids=60, memory=300 << 20))
            assert "all" not in said
            assert await world.inside("echo calm", agent=BOB) == "calm\n"


REACH = """
import socket, sys
for port in sys.argv[1:]:
    try:
        print(socket.create_connection(("127.0.0.1", int(port)), 3).recv(5).decode())
    except OSError:
        print("refused")
print(any(line.split()[1] == "0" * 8 for line in open("/proc/net/route")))
"""


def greet(server: socket.socket) -> None:
    """Says `hello` to one."""
    with server.accept()[0] as client, contextlib.suppress(OSError):
        client.sendall(b"hello")


@pytest.mark.needs("pasta")
@pytest.mark.parametrize(("network", "seen"), [("none", "refused"), ("out", "refused"), ("host", "hello")])
async def test_the_hosts_loopback_is_reached_only_where_that_was_asked_for(
    world: NspawnWorld, network: Network, seen: str
) -> None:
    world.paths.make_agent(ALICE)
    (world.paths.agent_state(ALICE) / "reach.py").write_text(REACH)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=[server], daemon=True)
        thread.start()
        said = await world.inside(f"python3 reach.py {server.getsockname()[1]}", network=network)
        with socket.create_connection(server.getsockname()):  # it waits no more
            thread.join()
    assert said.split() == [seen, "True" if network != "none" else "False"]
