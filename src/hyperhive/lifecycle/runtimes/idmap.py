"""Shows what the host binds into a container as its second user's own, by idmapped mounts (Linux 5.12).

On the host everything of an agent belongs to the hive's user, whatever the runtime. In a container two users must be
told apart. So each bind is mounted over itself with its owner and the second user exchanged: what the one makes there
is stored as the other's, and nothing on the host has to change hands. Where the host made the mounts so already
(nspawn), nothing is done. Needs root in the container, and blocks.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes.mapped_mounts import clone, exchange, mount, namespace


def binds_in(mountinfo: str, prefixes: Sequence[str]) -> Iterator[str]:
    """The mount points at or below these directories that are not mapped yet. Of /proc/self/mountinfo."""
    last: dict[str, bool] = {}
    for line in mountinfo.splitlines():
        before, _, _ = line.partition(" - ")
        words = before.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4])
        if any(point == one or point.startswith(f"{one}/") for one in prefixes):
            last[point] = "idmapped" in words[5].split(",")
    return (point for point, mapped in last.items() if not mapped)


def give_binds(prefixes: Sequence[str], uid: int) -> None:
    """Every bind at or below these directories is shown as this user's. Idempotent.

    Raises:
        MissingPart: the kernel cannot do that. WorldError: it refuses.
    """
    for point in binds_in(Path("/proc/self/mountinfo").read_text(), prefixes):
        _remount(Path(point), uid)


def _remount(point: Path, uid: int) -> None:
    owner = point.stat()
    users, tree = -1, -1
    try:
        users = namespace(exchange(owner.st_uid, uid), exchange(owner.st_gid, uid))
        tree = clone(str(point))
        mount(tree, str(point), users)
    except OSError as error:
        if error.errno == 38:  # ENOSYS
            raise MissingPart(
                "the kernel has no idmapped mounts", hint="Linux 6.3 or newer is needed"
            ) from error
        raise WorldError(
            f"{point} cannot be shown as the agent's user's: {error.strerror}",
            hint="idmapped mounts need Linux 6.3 or newer and a file system that has them",
        ) from error
    finally:
        for fd in (users, tree):
            if fd >= 0:
                os.close(fd)
