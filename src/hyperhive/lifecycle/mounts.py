"""Which of the operator's directories an agent may be shown, and where.

A source is judged after every symlink in it is resolved, and again at every launch: what was harmless when it was
written down may have been exchanged since. Nothing is mounted here.
"""

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hyperhive.config import MountSetting
from hyperhive.errors import BadConfig, BadRequest
from hyperhive.paths import BOX_WORKSPACE, Paths

_MACHINE: Final = tuple(Path(p) for p in ("/proc", "/sys", "/dev", "/run", "/etc", "/boot"))


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
    mounts: Sequence[MountSetting], paths: Paths, home: Path | None = None
) -> list[ResolvedMount]:
    """The mounts, resolved and judged.

    Args:
        home: the operator's home directory; the hive's own user's unless given.

    Raises:
        BadConfig: one fault for each mount that is refused.
    """
    faults: list[str] = []
    resolved: list[ResolvedMount] = []
    for mount in mounts:
        reason = _target_fault(mount.target, [r.target for r in resolved])
        source = Path(mount.source)
        reason = reason or _source_fault(source, paths, home or Path.home(), writable=mount.mode == "rw")
        if reason:
            faults.append(f"mount {mount.source}: {reason}")
        else:
            resolved.append(ResolvedMount(source.resolve(), mount.target, mount.mode == "rw"))
    if faults:
        raise BadConfig(
            faults, hint="an agent is shown single directories of work, never the hive's or your own"
        )
    return resolved


def _target_fault(target: str, others: list[str]) -> str | None:
    if posixpath.normpath(target) != target or not target.startswith(f"{BOX_WORKSPACE}/") or "\0" in target:
        return f"its target {target!r} is no plain path under {BOX_WORKSPACE}"
    for other in others:
        if target == other or target.startswith(f"{other}/") or other.startswith(f"{target}/"):
            return f"its target {target} overlaps {other}"
    return None


def _source_fault(source: Path, paths: Paths, home: Path, *, writable: bool) -> str | None:
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
    return _place_fault(path, paths, home.resolve()) or (_write_fault(info) if writable else None)


def _place_fault(path: Path, paths: Paths, home: Path) -> str | None:
    """Why this place must not be shown to an agent, whoever asks."""
    for own in (paths.state_dir.resolve(), paths.run_dir.resolve()):
        if path.is_relative_to(own) or own.is_relative_to(path):
            return "the hive's own directories are in it, or it in them"
    if home.is_relative_to(path):
        return "your home directory is in it"
    if path.is_relative_to(home) and path.relative_to(home).parts[0].startswith("."):
        return "it is a dot directory of your home"
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
