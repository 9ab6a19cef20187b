"""Socket files: bound 0600 in a directory that only its owner can enter, and removed by whoever made them.

Blocking on purpose: the server calls these in a worker thread. Nothing here accepts a connection.
"""

import contextlib
import os
import socket
import stat
from pathlib import Path

from hyperhive.errors import Conflict, WorldError
from hyperhive.names import check_socket_path

BACKLOG = 128


class BoundSocket:
    """A listening socket and the identity of its file."""

    def __init__(self, path: Path, sock: socket.socket, inode: tuple[int, int]) -> None:
        self.path = path
        self.sock = sock
        self._inode = inode

    def unlink(self) -> None:
        """Removes the file, unless somebody has put another one in its place."""
        with contextlib.suppress(FileNotFoundError):
            if _inode(self.path) == self._inode:
                self.path.unlink()


def bind(path: Path) -> BoundSocket:
    """Listens at `path`; whoever can connect there is whoever can enter its directory, which becomes 0700.

    A socket file that nobody listens on any more is replaced.

    Raises:
        PathTooLong: the kernel cannot bind that path.
        Conflict: somebody listens there, or what is there is no socket.
        WorldError: the directory is not ours, or the file system refused.
    """
    check_socket_path(path)
    try:
        _own_directory(path.parent)
        _clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.bind(str(path))
            path.chmod(0o600)  # before `listen`: until then nobody can connect
            sock.listen(BACKLOG)
            return BoundSocket(path, sock, _inode(path))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise WorldError(f"cannot listen on {path}: {error.strerror or error}") from error


def _own_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise WorldError(f"{directory} is not a directory of this user's own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"{path} is in the way: it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: somebody is there
    raise Conflict(f"another process listens on {path}", hint="stop it, or choose another run directory")


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
