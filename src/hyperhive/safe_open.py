"""Reading files below a directory that an agent can write: never following a link, never blocking, never too much.

Every component is opened from the directory before it with O_NOFOLLOW; what was opened is what is checked and read, so
that nothing can be swapped in between (the same promise as openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, on any
kernel). Blocking calls on local files; callers on the loop hop to a thread. Writes nothing.
"""

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from hyperhive.errors import BadRequest, NotFound, WorldError

READ_MAX: Final = 256 * 1024

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def open_beneath(root: Path, relative: str) -> int:
    """A file descriptor of the regular file `relative` below `root`; the caller closes it.

    `root` itself must be a directory that the agent cannot replace.

    Raises:
        BadRequest: the path is absolute, has `..`, a symlink or no regular file at its end.
        NotFound: there is no such file.
        WorldError: it cannot be read.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise BadRequest(f"{relative!r} is no path below the directory")
    fd = -1
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        found = os.open(parts[-1], _FILE, dir_fd=fd)
    except FileNotFoundError:
        raise NotFound(f"there is no file {relative!r}") from None
    except (NotADirectoryError, IsADirectoryError):
        raise BadRequest(f"{relative!r} is no regular file reached without links") from None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a symlink; a socket
            raise BadRequest(f"{relative!r} is no regular file reached without links") from None
        raise WorldError(f"{relative!r} cannot be read: {error.strerror}") from error
    finally:
        if fd >= 0:
            os.close(fd)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise BadRequest(f"{relative!r} is no regular file reached without links")
    return found


def read_beneath(root: Path, relative: str, *, limit: int = READ_MAX) -> bytes:
    """The first `limit` bytes of the regular file `relative` below `root`.

    Raises:
        BadRequest, NotFound, WorldError: as `open_beneath`.
    """
    fd = open_beneath(root, relative)
    try:
        chunks: list[bytes] = []
        left = limit
        while left > 0 and (chunk := os.read(fd, min(left, 65536))):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    except OSError as error:
        raise WorldError(f"{relative!r} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
