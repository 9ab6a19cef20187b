"""Writing below a directory that an agent writes: whole or not at all, never outside, never into what is there."""

import ctypes
import os
import threading
from pathlib import Path

import pytest

from hyperhive.errors import BadRequest, WorldError
from hyperhive.safe_open import write_beneath

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # renameat2(2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"theirs")
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    return root


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return (outside / "file").read_bytes() == b"theirs" and [one.name for one in outside.iterdir()] == [
        "file"
    ]


def test_a_file_is_made_with_the_directories_on_its_way_for_its_owner_alone(root: Path) -> None:
    write_beneath(root, "a/b/c.md", b"text", tag="t")
    assert (root / "a/b/c.md").read_bytes() == b"text"
    assert [(root / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c.md")] == [
        0o700,
        0o700,
        0o600,
    ]
    assert [one.name for one in (root / "a/b").iterdir()] == ["c.md"]


def test_doing_it_again_changes_nothing_and_what_a_crash_left_is_cleared(root: Path) -> None:
    (root / "dir/.hyperhive-t.tmp").write_bytes(b"half")
    for _ in range(2):
        write_beneath(root, "dir/c.md", b"text", tag="t")
    assert [one.name for one in (root / "dir").iterdir()] == ["c.md"]


def test_a_file_that_is_there_is_replaced_and_never_written_into(root: Path) -> None:
    """A hard link to a file elsewhere: its other name keeps its content."""
    os.link(root.parent / "outside/file", root / "dir/c.md")
    write_beneath(root, "dir/c.md", b"text", tag="t")
    assert (root / "dir/c.md").read_bytes() == b"text"
    assert untouched(root)


@pytest.mark.parametrize(
    "path", ["", "/tmp/x", "../outside/x", "dir/../../outside/x", "a\0b", ".", "x" * 300]
)
def test_what_is_no_path_below_is_refused(root: Path, path: str) -> None:
    with pytest.raises(BadRequest):
        write_beneath(root, path, b"text", tag="t")
    assert untouched(root)


def test_links_and_what_is_no_regular_file_are_refused_and_left_as_they_are(root: Path) -> None:
    (root / "link").symlink_to("../outside/file")
    (root / "dirlink").symlink_to("../outside")
    (root / "dangling").symlink_to("../outside/new")
    (root / "dir/.hyperhive-t.tmp").symlink_to("../../outside/file")
    os.mkfifo(root / "fifo")
    (root / "plain").write_bytes(b"a file")
    for path in ("link", "dirlink/file", "dirlink/new", "dangling", "fifo", "dir", "plain/x", "dirlink"):
        with pytest.raises(BadRequest):
            write_beneath(root, path, b"text", tag="t")
    write_beneath(root, "dir/c.md", b"text", tag="t")
    assert (root / "link").is_symlink()
    assert untouched(root)


def test_where_nothing_can_be_written_the_error_says_so(root: Path) -> None:
    with pytest.raises(WorldError, match="cannot be written"):
        write_beneath(root / "missing", "x", b"text", tag="t")


def test_swapping_directory_and_link_never_writes_outside(root: Path) -> None:
    """One thread exchanges `dir` and a link to outside as fast as it can; nothing outside ever changes."""
    (root / "out").symlink_to("../outside")
    libc = ctypes.CDLL(None, use_errno=True)
    one, other = bytes(root / "dir"), bytes(root / "out")
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            swaps += libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        for number in range(500):
            try:
                write_beneath(root, "dir/file", b"text", tag=f"{number}")
                outcomes.add("written")
            except BadRequest:
                outcomes.add("refused")
    finally:
        stop.set()
        thread.join()
    assert untouched(root)
    assert swaps > 10
    assert outcomes <= {"written", "refused"}
