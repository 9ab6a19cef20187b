"""Attack G8: what a monstrous proposal costs the core, by the shipped limits: memory and processor time are bounded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest

import hyperhive
from config_repos import ALICE, Desk, paths_at, plain_repos
from parts import CLEAN_ENV, ROOT

pytestmark = [pytest.mark.needs("git"), pytest.mark.may_block("the attacker makes the monster by hand")]

MEMORY = 256 << 20
SECONDS = 2.0

LOOK = """
import json, resource, sys
from pathlib import Path
import anyio
from config_repos import ALICE, paths_at, plain_repos
from hyperhive.errors import HiveError

def spent():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # Not ru_maxrss of this process: that counts what its parent had when it was forked.
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return sum(one.ru_utime + one.ru_stime for one in both), max(int(peak), both[1].ru_maxrss) * 1024

async def main(root, commit):
    repos, told = plain_repos(paths_at(Path(root))), {}
    before, _ = spent()
    try:
        pinned = await repos.propose(ALICE, commit, 1)
        before_diff, _ = spent()
        shown = await repos.diff(ALICE, pinned.base_sha, pinned.sha)
        told = {"paths": [one.path for one in shown.files], "text": shown.text, "too_big": shown.too_big,
                "diff_seconds": spent()[0] - before_diff}
    except HiveError as error:
        told = {"refused": error.code, "diff_seconds": 0}
    now, memory = spent()
    print(json.dumps({**told, "seconds": now - before, "memory": memory}))

anyio.run(main, *sys.argv[1:])
"""


def sparse(desk: Desk) -> str:
    with (desk.repo / "bomb").open("wb") as file:
        file.truncate(400 << 20)
    desk.git("add", "bomb")
    desk.git("commit", "--quiet", "-m", "bomb")
    return desk.git("rev-parse", "HEAD")


MONSTERS = {
    "many files": lambda desk: desk.commit({f"d/{n}": f"line {n}\n" * 800 for n in range(1900)}),
    "one line": lambda desk: desk.commit({"long": "x" * 1_000_000}),
    "noise": lambda desk: desk.commit({f"n{n}": os.urandom(1_000_000) for n in range(15)}),
    "text": lambda desk: desk.commit({f"t{n}": "a line\n" * 140_000 for n in range(15)}),
    "hidden": lambda desk: desk.commit({"filler": "x\n" * 90_000 + "real\n", ".gitattributes": "* -diff\n"}),
    "grows when unpacked": sparse,
}


def look(root: Path, commit: str) -> dict[str, object]:
    """What a fresh process needs for it."""
    source = Path(hyperhive.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(root), commit],
        env={**CLEAN_ENV, "PYTHONPATH": f"{source}:{ROOT / 'tests/support'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


LONG = {"noise", "text", "grows when unpacked"}
"""These take the attacker long to make."""


@pytest.mark.parametrize(
    "monster", [pytest.param(one, marks=[pytest.mark.campaign] if one in LONG else []) for one in MONSTERS]
)
async def test_a_monster_is_shown_path_by_path_or_refused_at_a_bounded_cost(
    monster: str, tmp_path: Path
) -> None:
    paths = paths_at(tmp_path)
    await plain_repos(paths).ensure(ALICE)
    desk = Desk(paths.proposed_config(ALICE))
    commit = await anyio.to_thread.run_sync(MONSTERS[monster], desk)
    changed = desk.git("diff-tree", "-r", "--name-only", "HEAD^", "HEAD").splitlines()
    told = await anyio.to_thread.run_sync(look, tmp_path, commit)
    assert told["memory"] < MEMORY  # type: ignore[operator]
    assert told["diff_seconds"] < SECONDS  # type: ignore[operator]
    if monster == "grows when unpacked":
        assert told["refused"] == "limit"
        return
    assert told["paths"] == changed
    assert all(path in str(told["text"]) for path in changed)
    assert told["too_big"] is (monster not in {"noise", "hidden"})
