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
    outside.mkdir()
    (outside / "kept").touch()
    outside.chmod(0o500)
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

    with monkeypatch.context() as patches:
        for look in looks:
            patches.setattr(os, look, then_exchanged(look))
        remove_tree(tree, [])
    assert outside.stat().st_mode & 0o777 == 0o500
    assert (outside / "kept").exists()
    failures: list[str] = []
    remove_tree(tree, failures)
    assert (failures, tree.exists()) == ([], False)


@pytest.mark.parametrize("depth", [10, 1500])
def test_a_tree_of_any_depth_with_any_names_is_deleted(depth: int, tmp_path: Path) -> None:
    """An agent cannot make its directory too deep to be purged, nor by names that are used on the way."""
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for number in range(depth):
        for name in ("d", str(number), str(number + 1)):
            os.mkdir(name, dir_fd=here)
        for name in (str(number + 2), "file"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.symlink("..", "link", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    failures: list[str] = []
    remove_tree(tree, failures)
    assert (failures, tree.exists()) == ([], False)


def test_what_cannot_be_deleted_is_told_and_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b/stays", "a/b/goes", "a/goes", "b/goes", "goes"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    unlink = os.unlink

    def immutable(name: str, *, dir_fd: int) -> None:
        if name == "stays":
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    failures: list[str] = []
    with monkeypatch.context() as patches:
        patches.setattr(os, "unlink", immutable)
        remove_tree(tmp_path / "tree", failures)
    assert "Operation not permitted: 'stays'" in failures[0]
    assert [path.name for path in (tmp_path / "tree").rglob("*") if path.is_file()] == ["stays"]
    failures.clear()
    remove_tree(tmp_path / "tree", failures)
    assert (failures, (tmp_path / "tree").exists()) == ([], False)
