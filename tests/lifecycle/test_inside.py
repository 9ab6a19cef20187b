"""Inside of a container: the harness's programs run as the second user, and behave as in any box."""

import sys
from pathlib import Path

import anyio.to_thread
import pytest

from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.lifecycle.runtimes.idmap import binds_in, exchange
from hyperhive.lifecycle.runtimes.inside import InsidePaths
from nixos_world import ALICE, NixosWorld


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
async def test_outside_of_a_container_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="no container of the hive's"):
        InsidePaths.of(tmp_path).make_agent(ALICE)
    with pytest.raises(MissingPart, match="setpriv"):
        await pick_runtime(
            "process", InsidePaths.of(tmp_path), {"HYPERHIVE_INSIDE": "x", "PATH": str(tmp_path)}
        )


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
