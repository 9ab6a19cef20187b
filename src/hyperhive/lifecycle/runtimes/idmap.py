"""Shows what the host binds into a container as its second user's own, by idmapped mounts (Linux 5.12).

On the host everything of an agent belongs to the hive's user, whatever the runtime. In a container two users must be
told apart. So each bind is mounted over itself with its owner and the second user exchanged: what the one makes there
is stored as the other's, and nothing on the host has to change hands. Needs root in the container, and blocks.
"""

import ctypes
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hyperhive.errors import MissingPart, WorldError

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_CLONE_NEWUSER = 0x10000000
_IDS: Final = (1 << 32) - 1


def exchange(one: int, other: int) -> str:
    """A map of all ids onto themselves but these two, as in /proc/PID/uid_map."""
    if one == other:
        return f"0 0 {_IDS}\n"
    low, high = sorted((one, other))
    extents = [
        (0, 0, low),
        (low, high, 1),
        (low + 1, low + 1, high - low - 1),
        (high, low, 1),
        (high + 1, high + 1, _IDS - high - 1),
    ]
    return "".join(f"{inner} {outer} {count}\n" for inner, outer, count in extents if count)


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
    users = _namespace(exchange(owner.st_uid, uid), exchange(owner.st_gid, uid))
    tree = -1
    try:
        path = os.fsencode(point)
        flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
        tree = _call(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(path), ctypes.c_uint(flags))
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_IDMAP, 0, 0, users)
        _call(
            _MOUNT_SETATTR, ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_uint(_AT_EMPTY_PATH),
            ctypes.byref(attributes), ctypes.c_size_t(32),
        )  # fmt: skip
        _call(
            _MOVE_MOUNT, ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(path),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        )  # fmt: skip
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
        os.close(users)
        if tree >= 0:
            os.close(tree)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    done = int(libc.syscall(ctypes.c_long(number), *arguments))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done


def _namespace(uids: str, gids: str) -> int:
    """A user namespace with these maps, as a descriptor: made by a child that lives for as long as that takes."""
    ready, say_ready = os.pipe()
    wait, let_go = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        _in_child(lambda: libc.unshare(_CLONE_NEWUSER) == 0, say_ready, wait, let_go)
    try:
        os.close(say_ready)
        if os.read(ready, 1) != b"y":
            raise WorldError("no user namespace can be made in this container")
        proc = Path(f"/proc/{child}")
        (proc / "uid_map").write_text(uids)
        (proc / "gid_map").write_text(gids)
        return os.open(proc / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise WorldError(f"a user namespace cannot be set up: {error.strerror}") from error
    finally:
        for fd in (ready, wait, let_go):
            os.close(fd)
        os.waitpid(child, 0)


def _in_child(unshare: Callable[[], bool], say: int, wait: int, let_go: int) -> None:
    try:
        os.close(let_go)
        os.write(say, b"y" if unshare() else b"n")
        os.read(wait, 1)
    finally:
        os._exit(0)
