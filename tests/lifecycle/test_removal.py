"""Deleting what agents leave: whatever has the place of a directory goes, and nothing is touched through a link."""

import os
from pathlib import Path

import pytest

from hyperhive.lifecycle.removal import purge_files, remove_tree
from hyperhive.names import AgentName
from hyperhive.paths import Paths

pytestmark = pytest.mark.may_block("deleting blocks; the lifecycle does it in a thread")


@pytest.mark.parametrize("what", ["file", "link", "dangling link", "locked file", "socket"])
def test_what_is_no_directory_is_deleted_too(what: str, tmp_path: Path) -> None:
    """A purge does not get stuck on what stands in the place of a directory, and takes nothing else along."""
    alice = AgentName("alice")
    paths = Paths.of(tmp_path / "s")
    paths.make_hive()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    places = (paths.agent_dir(alice), paths.proposed / alice, paths.applied_repo(alice),
              paths.tools_dir(alice), paths.harness_dir(alice))  # fmt: skip
    for place in places:
        if what == "socket":
            os.mknod(place, 0o140600)
        elif "link" in what:
            place.symlink_to(outside if what == "link" else tmp_path / "none")
        else:
            place.touch(0 if what == "locked file" else 0o600)
    purge_files(paths, alice)
    assert [place for place in places if os.path.lexists(place)] == []
    assert (outside / "kept").exists()


def test_rights_are_given_to_a_directory_and_never_to_what_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanged for a link at the worst moment, right after it was looked at: what it points to keeps its mode."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    tree = tmp_path / "tree"
    victim = tree / "victim"
    victim.mkdir(parents=True)
    looks = {"stat": os.stat, "open": os.open}

    def then_exchanged(look: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - stands for any look at a name
        def looked(name, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN003, ANN202
            seen = looks[look](name, *args, **kwargs)  # type: ignore[operator]
            if name == "victim" and not victim.is_symlink():
                victim.rename(tree / "moved")
                victim.symlink_to(outside)
            return seen

        return looked

    def refused(place, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
        kwargs["onerror"](None, str(place), (None, PermissionError("not yet"), None))

    with monkeypatch.context() as patches:
        for look in looks:
            patches.setattr(os, look, then_exchanged(look))
        patches.setattr("shutil.rmtree", refused)  # the tree is still there when rights are given
        remove_tree(tree, [])
    assert victim.is_symlink()
    assert outside.stat().st_mode & 0o777 == 0o500
