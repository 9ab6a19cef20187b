"""Files below a directory that an agent can write: never following a link, never blocking, never reading too much.

Every component is opened from the directory before it with O_NOFOLLOW; what was opened is what is checked, read and
written, so that nothing can be swapped in between (the same promise as openat2 with RESOLVE_BENEATH and
RESOLVE_NO_SYMLINKS, on any kernel). Blocking calls on local files; callers on the loop hop to a thread.
"""

import errno
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from hyperhive.errors import BadRequest, NotFound, WorldError

READ_MAX: Final = 256 * 1024
PATH_MAX_BYTES: Final = 4095
NAME_MAX_BYTES: Final = 255
"""The kernel's own limits (limits.h), said before a file system says them in its own ways."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def parts_beneath(relative: str) -> tuple[str, ...]:
    """The components of a relative path that can only lead downwards. Looks at nothing on disk.

    Raises:
        BadRequest: it is absolute, empty, has `..` or a NUL, or cannot be a path at all.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise BadRequest(
            f"{relative!r} does not lead downwards from where it starts", hint="no '..', and not empty"
        )
    try:
        if (
            len(os.fsencode(relative)) > PATH_MAX_BYTES
            or max(map(len, map(os.fsencode, parts))) > NAME_MAX_BYTES
        ):
            raise BadRequest(f"{relative[:80]!r}… is too long for a path")
    except UnicodeEncodeError:
        raise BadRequest(f"{relative[:80]!r} is no valid text") from None
    return parts


def open_beneath(root: Path, relative: str) -> int:
    """A file descriptor of the regular file `relative` below `root`; the caller closes it.

    `root` itself must be a directory that the agent cannot replace.

    Raises:
        BadRequest: the path is absolute, has `..`, a symlink or no regular file at its end.
        NotFound: there is no such file.
        WorldError: it cannot be read.
    """
    parts = parts_beneath(relative)
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
        return read_all(fd, relative, limit)
    finally:
        os.close(fd)


def read_all(fd: int, name: str, limit: int) -> bytes:
    """What is left to read of an open file, at most `limit` bytes; it may grow meanwhile.

    Raises:
        WorldError: it cannot be read.
    """
    chunks: list[bytes] = []
    left = limit
    try:
        while left > 0 and (chunk := os.read(fd, min(left, 65536))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise WorldError(f"{name!r} cannot be read: {error.strerror}") from error
    return b"".join(chunks)


def write_beneath(root: Path, relative: str, data: bytes, *, tag: str) -> None:
    """Makes `relative` below `root` a regular file of this content, in one step: it is the old one, or all of the new.

    Durable when it returns; doing it again changes nothing. Directories on the way are made where they are missing
    (0700); the file is 0600. Both belong to whoever owns the directory above them. A file that is there is replaced,
    never written into: a hard link to it elsewhere keeps the old content. Where a link, a directory or anything else
    that is no regular file has its place, nothing is written.

    Args:
        root: a directory that the agent cannot replace.
        tag: names the half-written file beside the target; no two writes of one tag may run at the same time.

    Raises:
        BadRequest: the path is absolute, has `..`, a link or no directory on its way, no regular file at its end.
        WorldError: it cannot be written (the disk is full, the directory is read-only or missing).
    """
    parts = parts_beneath(relative)
    half = f".hyperhive-{tag}.tmp"
    with ExitStack() as opened:
        try:
            here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, here)
            for part in parts[:-1]:
                here = _enter(here, part)
                opened.callback(os.close, here)
            _refuse_irregular(here, parts[-1], relative)
            with suppress(FileNotFoundError):  # what a crash left
                os.unlink(half, dir_fd=here)
            _write_new(here, half, data)
            os.replace(half, parts[-1], src_dir_fd=here, dst_dir_fd=here)
            os.fsync(here)
        except (NotADirectoryError, IsADirectoryError):
            raise BadRequest(f"{relative!r} is no regular file reached without links") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadRequest(f"{relative!r} is no regular file reached without links") from None
            raise WorldError(f"{relative!r} cannot be written: {error.strerror}") from error


def _enter(here: int, name: str) -> int:
    """A descriptor of the directory `name`, which is made where it is missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=here)
        made = True
    except FileExistsError:  # as what, the next call says
        made = False
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    if made:
        try:
            _give(inner, here)
            os.fsync(here)
        except OSError:
            os.close(inner)
            raise
    return inner


def _refuse_irregular(here: int, name: str, relative: str) -> None:
    try:
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"{relative!r} is no regular file reached without links")


def _write_new(here: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=here)
    try:
        _give(fd, here)
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.unlink(name, dir_fd=here)
        raise
    finally:
        os.close(fd)


def _give(fd: int, directory: int) -> None:
    """What was made belongs to whoever owns the directory: an agent with a uid of its own must be able to read it."""
    mine, owner = os.fstat(fd), os.fstat(directory)
    if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid) and os.geteuid() == 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)
