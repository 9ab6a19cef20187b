"""One owner process per database: a lock file beside it.

The kernel drops the lock with the process, however it ends. The file itself stays: removing it would let two owners
lock two different files. Guards against a second hive, not against programs that ignore the lock.
"""

import fcntl
import os
from pathlib import Path

from hyperhive.errors import StoreFailed, StoreLocked


class OwnerLock:
    """Held from construction to `release`. Blocks on the disk for a moment: not for the event loop's thread.

    Raises:
        StoreLocked: another process (or another Store of this one) owns the database.
        StoreFailed: the lock file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(
                f"cannot make the lock file {path}: {error.strerror}",
                hint="the state directory must exist and be writable",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise StoreLocked(
                f"{database} is owned by process {owner or '(unknown)'}",
                hint="stop that hive first, or talk to it through its sockets",
            ) from error
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next owner in; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
