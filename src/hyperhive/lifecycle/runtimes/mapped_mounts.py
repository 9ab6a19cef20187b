"""Idmapped mounts by system call (Linux 5.12): what belongs to one user on the disk is shown as another's.

Used by the harness in a container (`idmap`), and by what makes a container on the host (`nspawn_keeper`), which starts
as its Python does: standard library only, and none of the slow modules. Needs root. Raises OSError alone.
"""

import ctypes
import os

_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442  # the same on every architecture
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_RESOLVE_NO_SYMLINKS = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_CLONE_NEWUSER = 0x10000000
IDS = (1 << 32) - 1


def exchange(one: int, other: int, *, ids: int = IDS, first: int = 0) -> str:
    """A map of ids (on the disk) onto themselves but these two, as in /proc/PID/uid_map.

    Args:
        one: becomes `other`, and the other way round.
        ids: how many there are; `other` is one of them. An id beyond them that is not `one` has no place in the map.
        first: what is added to whatever they become: the first id of a container's own range.
    """
    if one == other:
        return f"0 {first} {ids}\n"
    if one >= ids:  # an owner that the range has no number for takes the other's
        extents = [(0, 0, other), (one, other, 1), (other + 1, other + 1, ids - other - 1)]
    else:
        low, high = sorted((one, other))
        extents = [
            (0, 0, low),
            (low, high, 1),
            (low + 1, low + 1, high - low - 1),
            (high, low, 1),
            (high + 1, high + 1, ids - high - 1),
        ]
    return "".join(f"{inner} {first + outer} {count}\n" for inner, outer, count in extents if count)


def clone(path: str, *, whole: bool = False) -> int:
    """What is mounted at a path, as a descriptor; mounted nowhere yet. A link anywhere in the path is an error.

    `whole`: and all that is mounted below.
    """
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    text = ctypes.c_char_p(os.fsencode(path))
    place = _call(_OPENAT2, ctypes.c_int(_AT_FDCWD), text, ctypes.byref(how), ctypes.c_size_t(24))
    try:
        flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if whole else 0)
        return _call(_OPEN_TREE, ctypes.c_int(place), ctypes.c_char_p(b""), ctypes.c_uint(flags))
    finally:
        os.close(place)


def mount(tree: int, path: str, users: int | None, *, whole: bool = False) -> None:
    """Mounts a clone at a path, shown as the user namespace `users` maps its owners. `whole`: as in `clone`."""
    if users is not None:
        flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if whole else 0)
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_IDMAP, 0, 0, users)
        _call(
            _MOUNT_SETATTR, ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_uint(flags),
            ctypes.byref(attributes), ctypes.c_size_t(32),
        )  # fmt: skip
    _call(
        _MOVE_MOUNT, ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )  # fmt: skip


def namespace(uids: str, gids: str) -> int:
    """A user namespace with these maps, as a descriptor: made by a child that lives for as long as that takes."""
    ready, say_ready = os.pipe()
    wait, let_go = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        try:
            os.close(let_go)
            os.write(say_ready, b"y" if libc.unshare(_CLONE_NEWUSER) == 0 else b"n")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(say_ready)
        if os.read(ready, 1) != b"y":
            raise PermissionError(1, "no user namespace can be made here")
        for name, text in (("uid_map", uids), ("gid_map", gids)):
            file = os.open(f"/proc/{child}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (ready, wait, let_go):
            os.close(fd)
        os.waitpid(child, 0)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    done = int(libc.syscall(ctypes.c_long(number), *arguments))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done
