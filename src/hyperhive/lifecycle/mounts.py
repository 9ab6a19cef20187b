"""Which of the operator's directories an agent may be shown, and where.

A source is judged after every symlink in it is resolved, and again at every launch: what was harmless when it was
written down may have been exchanged since. No name on the way to it may be one that an agent can exchange: that could
be done between the look and the mount. Nothing is mounted here.
"""

import os
import posixpath
import pwd
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hyperhive.config import MountSetting
from hyperhive.errors import BadConfig, BadRequest
from hyperhive.paths import BOX_WORKSPACE, Paths

_MACHINE: Final = tuple(Path(p) for p in ("/proc", "/sys", "/dev", "/run", "/etc", "/boot"))
_LOOKUPS: Final = 4096  # a path of the longest kind has fewer names, and 40 links at most


@dataclass(frozen=True, slots=True)
class ResolvedMount:
    """A mount that was judged: `source` has no symlink in it."""

    source: Path
    target: str
    writable: bool


def parse_mount(text: str, cwd: Path) -> MountSetting:
    """`DIR[:rw]` of the command line as a setting; DIR appears as /workspace/NAME, read-only unless `:rw`.

    Raises:
        BadRequest: no directory is named.
    """
    source, colon, mode = text.rpartition(":")
    chosen: Literal["ro", "rw"] = "rw" if colon and mode == "rw" else "ro"
    if not colon or mode not in {"ro", "rw"}:
        source = text
    path = Path(os.path.abspath(cwd / Path(source).expanduser()))  # noqa: PTH100 - resolve() would hide a symlink from the check
    if not source or not path.name:
        raise BadRequest(f"{text!r} names no directory to mount", hint="--mount DIR or --mount DIR:rw")
    return MountSetting(source=str(path), target=f"{BOX_WORKSPACE}/{path.name}", mode=chosen)


def check_mounts(
    mounts: Sequence[MountSetting], paths: Paths, home: Path | None = None, shared: Sequence[Path] = ()
) -> list[ResolvedMount]:
    """The mounts, resolved and judged. Blocks.

    Args:
        home: the operator's home directory; the hive's own user's unless given. The homes of all other users that the
            machine knows are as private.
        shared: what other agents can write. Two agents may share a directory; what lies inside of one is refused.

    Raises:
        BadConfig: one fault for each mount that is refused.
    """
    faults: list[str] = []
    resolved: list[ResolvedMount] = []
    homes = _homes(home or Path.home())
    writers = (*shared, *(Path(mount.source) for mount in mounts if mount.mode == "rw"))
    writable = [place.resolve() for place in writers if os.path.exists(place)]  # noqa: PTH110 - as in `_homes`
    for mount in mounts:
        reason = _target_fault(mount.target, [r.target for r in resolved])
        source = Path(mount.source)
        reason = reason or _source_fault(source, paths, homes, writable, to_write=mount.mode == "rw")
        if reason:
            faults.append(f"mount {mount.source}: {reason}")
        else:
            resolved.append(ResolvedMount(source.resolve(), mount.target, mount.mode == "rw"))
    if faults:
        raise BadConfig(
            faults, hint="an agent is shown single directories of work, never the hive's or your own"
        )
    return resolved


def _homes(own: Path) -> list[Path]:
    """Every home directory that is there. Services that have none of their own are given `/`."""
    known = {own.resolve()}
    for user in pwd.getpwall():
        home = Path(user.pw_dir)
        if home.is_absolute() and os.path.isdir(home):  # noqa: PTH112 - which takes what may not be looked at as none
            known.add(home.resolve())
    return sorted(known - {Path("/")})


def _target_fault(target: str, others: list[str]) -> str | None:
    if posixpath.normpath(target) != target or not target.startswith(f"{BOX_WORKSPACE}/") or "\0" in target:
        return f"its target {target!r} is no plain path under {BOX_WORKSPACE}"
    for other in others:
        if target == other or target.startswith(f"{other}/") or other.startswith(f"{target}/"):
            return f"its target {target} overlaps {other}"
    return None


def _source_fault(
    source: Path, paths: Paths, homes: Sequence[Path], writable: Sequence[Path], *, to_write: bool
) -> str | None:
    if not source.is_absolute():
        return "the source is no absolute path"
    try:
        path = source.resolve(strict=True)
        info = path.stat()
    except (OSError, RuntimeError, ValueError) as error:
        return f"it cannot be resolved: {error}"
    if stat.S_ISSOCK(info.st_mode):
        return "it is a socket"
    if stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
        return "it is a device"
    if not stat.S_ISDIR(info.st_mode):
        return "it is no directory"
    return (
        _place_fault(path, paths, homes)
        or _exchange_fault(source, writable)
        or (_write_fault(info) if to_write else None)
    )


def _exchange_fault(source: Path, writable: Sequence[Path]) -> str | None:
    """Why the way to this source is not safe from agents."""
    try:
        for directory in _lookups(source):
            for place in writable:
                if directory.is_relative_to(place):
                    return (
                        f"it leads through {place}, which an agent can write and so exchange what lies there"
                    )
    except OSError as error:
        return f"it cannot be resolved: {error}"
    return None


def _lookups(source: Path) -> Iterator[Path]:
    """Every directory in which a name is looked up when `source` is resolved: whoever writes there says what it is."""
    here, left = Path("/"), list(reversed(source.parts[1:]))
    for _ in range(_LOOKUPS):
        if not left:
            return
        name = left.pop()
        if name == "..":
            here = here.parent
            continue
        yield here
        place = here / name
        if place.is_symlink():
            target = place.readlink()
            here = Path("/") if target.is_absolute() else here
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        else:
            here = place


def _place_fault(path: Path, paths: Paths, homes: Sequence[Path]) -> str | None:
    """Why this place must not be shown to an agent, whoever asks."""
    for own in (paths.state_dir.resolve(), paths.run_dir.resolve()):
        if path.is_relative_to(own) or own.is_relative_to(path):
            return "the hive's own directories are in it, or it in them"
    for home in homes:
        if home.is_relative_to(path):
            return f"the home directory {home} is in it"
        if path.is_relative_to(home) and path.relative_to(home).parts[0].startswith("."):
            return f"it is a dot directory of the home {home}"
    if any(path.is_relative_to(place) for place in _MACHINE):
        return "it belongs to the machine itself"
    return None


def _write_fault(info: os.stat_result) -> str | None:
    """In a box even root has no more than an owner's rights."""
    mine = info.st_uid == os.geteuid() and info.st_mode & stat.S_IWUSR
    ours = info.st_gid in {os.getegid(), *os.getgroups()} and info.st_mode & stat.S_IWGRP
    if mine or ours or info.st_mode & stat.S_IWOTH:
        return None
    return f"it belongs to uid {info.st_uid} and could not be written by an agent of uid {os.geteuid()}"
