"""Reading below a directory that an agent writes: no link, no device, no surprise, however fast it is swapped."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hyperhive.errors import BadRequest, NotFound
from hyperhive.safe_open import read_beneath

CANARY = b"canary: never to be read"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(CANARY)
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir/file").write_bytes(b"inside")
    return root


def test_a_regular_file_is_read_up_to_the_limit(root: Path) -> None:
    assert read_beneath(root, "dir/file") == b"inside"
    assert read_beneath(root, "dir/file", limit=3) == b"ins"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../outside/secret", "dir/../../outside/secret", "dir/file\0", "dir", "."]
)
def test_what_is_no_path_to_a_file_below_is_refused(root: Path, path: str) -> None:
    with pytest.raises(BadRequest):
        read_beneath(root, path)


def test_links_are_refused_wherever_they_stand(root: Path) -> None:
    (root / "link").symlink_to("../outside/secret")
    (root / "dirlink").symlink_to("../outside")
    (root / "inner").symlink_to("dir/file")
    (root / "self").symlink_to("/proc/self/root")
    for path in ("link", "dirlink/secret", "inner", "self/etc/passwd"):
        with pytest.raises(BadRequest):
            read_beneath(root, path)


async def test_what_is_no_regular_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        old = Path.cwd()
        os.chdir(root)
        try:
            listener.bind("sock")
        finally:
            os.chdir(old)
        try:
            for path in ("fifo", "sock"):
                with pytest.raises(BadRequest), anyio.fail_after(5):
                    await anyio.to_thread.run_sync(read_beneath, root, path, abandon_on_cancel=True)
        finally:
            with contextlib.suppress(OSError):  # where a thread waits for a writer, it must not wait on
                os.close(os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK))


def test_a_missing_file_is_not_found(root: Path) -> None:
    for path in ("nothing", "nowhere/file"):
        with pytest.raises(NotFound):
            read_beneath(root, path)


def test_swapping_directory_and_link_never_leads_outside(root: Path) -> None:
    """One thread swaps `dir` for a link to outside and back as fast as it can; the canary is never returned."""
    (root / "dir/secret").write_bytes(b"inside")
    (root / "out").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "dir").rename(root / "kept")
            (root / "out").rename(root / "dir")
            (root / "dir").rename(root / "out")
            (root / "kept").rename(root / "dir")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(5000):
            try:
                seen.add(read_beneath(root, "dir/secret"))
            except (BadRequest, NotFound):
                seen.add(b"refused")
    finally:
        stop.set()
        thread.join()
    assert CANARY not in seen
    assert seen <= {b"inside", b"refused"}
