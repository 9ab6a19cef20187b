"""Inside of a container: the harness's programs run as the second user, and behave as in any box."""

import os
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest

import hyperhive
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.lifecycle.runtimes.idmap import binds_in
from hyperhive.lifecycle.runtimes.inside import AGENT_UID, InsidePaths
from hyperhive.lifecycle.runtimes.mapped_mounts import exchange
from nixos_world import ALICE, NixosWorld
from parts import NSPAWN_BASE


@pytest.mark.needs("bwrap")
@pytest.mark.needs("root")
@pytest.mark.needs("git")
@pytest.mark.may_block("looks at files between commands")
async def test_what_the_harness_starts_in_a_container_behaves_as_in_a_box(tmp_path: Path) -> None:
    async with NixosWorld.open(tmp_path) as world:
        await world.runtime.up(ALICE, await world.lodging())
        words = [
            "env",
            "HYPERHIVE_INSIDE=nixos-container",
            sys.executable,
            "-m",
            "hyperhive.testing.inside_suite",
        ]
        done = await anyio.to_thread.run_sync(world.host.run, "run", "alice", "--", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        # On the host nothing changed hands, whoever wrote it in there.
        assert (world.paths.agent_state(ALICE) / "x").stat().st_uid == 0


@pytest.mark.may_block("as a harness at its start, in a thread")
async def test_outside_of_a_container_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorldError, match="no container of the hive's"):
        InsidePaths.of(tmp_path).make_agent(ALICE)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingPart, match="root"):
        await pick_runtime("process", InsidePaths.of(tmp_path), {"HYPERHIVE_INSIDE": "x"})


@pytest.mark.parametrize(
    ("one", "other"), [(0, 58371), (58371, 0), (1000, 58371), (7, 8), (5, 5), (4294967294, 3)]
)
def test_an_exchange_maps_every_id_once_and_only_the_two_elsewhere(one: int, other: int) -> None:
    extents = [tuple(map(int, line.split())) for line in exchange(one, other).splitlines()]

    def mapped(number: int) -> list[int]:
        return [outer + number - inner for inner, outer, count in extents if inner <= number < inner + count]

    assert mapped(one) == [other]
    assert mapped(other) == [one]
    for number in {0, 6, 9, 500, 58370, 58372, 4294967293} - {one, other}:
        assert mapped(number) == [number]
    assert sum(count for _, _, count in extents) == 4294967295


def test_an_exchange_for_a_range_of_ids_maps_into_it_and_takes_in_one_owner_from_beyond() -> None:
    assert exchange(0, 3, ids=5, first=100).splitlines() == ["0 103 1", "1 101 2", "3 100 1", "4 104 1"]
    assert exchange(0, 0, ids=5, first=100) == "0 100 5\n"
    assert exchange(70000, 3, ids=5, first=100).splitlines() == ["0 100 3", "70000 103 1", "4 104 1"]


def test_only_binds_that_are_not_mapped_yet_are_found() -> None:
    text = """\
30 20 8:1 /a /state rw,relatime - ext4 /dev/a rw
31 20 8:1 /b /claude rw,relatime,idmapped - ext4 /dev/a rw
32 20 8:1 /c /workspace/my\\040code rw shared:1 - ext4 /dev/a rw
33 20 8:1 /d /run/hive-harness rw - tmpfs t rw
34 20 8:1 /e /run/hive ro - tmpfs t rw
35 34 8:1 /e /run/hive ro,idmapped - tmpfs t rw
"""
    assert list(binds_in(text, ["/state", "/claude", "/run/hive", "/workspace"])) == [
        "/state",
        "/workspace/my code",
    ]


GIVE = f"""
import os, sys
from hyperhive.lifecycle.runtimes.idmap import give_binds
for _ in range(2):
    give_binds(["/mnt"], {AGENT_UID})
print(os.stat("/mnt").st_uid, os.stat("/mnt/seen").st_uid)
os.setgid({AGENT_UID})
os.setuid({AGENT_UID})
open("/mnt/mine", "w").close()
"""


@pytest.mark.needs("nspawn")
@pytest.mark.may_block("runs one program")
def test_binds_change_hands_in_a_container_of_systemd_nspawn_too(tmp_path: Path) -> None:
    """Under nspawn's own call filter and capabilities, which are those of a NixOS container."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/seen").touch()
    binds = {
        tmp_path / "state": "--bind=%s:/mnt", Path(sys.base_prefix): "--bind-ro=%s:/tmp/python",
        Path(hyperhive.__file__).parents[1]: "--bind-ro=%s:/tmp/src",
        Path(anyio.__file__).parents[1]: "--bind-ro=%s:/tmp/packages",
    }  # fmt: skip
    done = subprocess.run(
        [
            "systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", str(NSPAWN_BASE), "--read-only", "--as-pid2",
            "-M", "hive-idmap", "--console=pipe", "--tmpfs=/tmp", *(flag % path for path, flag in binds.items()),
            "-E", "PYTHONPATH=/tmp/src:/tmp/packages", "-E", "PYTHONHOME=/tmp/python",
            "-E", "LD_LIBRARY_PATH=/tmp/python/lib",
            f"/tmp/python/bin/python3.{sys.version_info.minor}", "-c", GIVE,
        ],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{AGENT_UID} {AGENT_UID}\n"), done.stderr
    assert (tmp_path / "state/mine").stat().st_uid == 0
