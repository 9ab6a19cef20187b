"""The read-only root file system that all nspawn containers of a hive share: where it is, and how it is made.

Any tree with a /usr and Python 3 in it will do; `make_base` makes one of Debian packages, by name. A container never
gets the tree itself, but its /usr, /etc and so on: see `nspawn_command`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.errors import MissingPart, WorldError
from hyperhive.paths import make_private

PACKAGES: Final = ("python3-minimal", "git", "ca-certificates")
PYTHON: Final = "usr/bin/python3"
MAKE_SECONDS: Final = 900.0

_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_SOURCES: Final = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")


def base_place(state_dir: Path, setting: str | None, environ: Mapping[str, str]) -> Path:
    """Where the base is, or would be: `HYPERHIVE_NSPAWN_BASE`, the setting `nspawn_base`, else `STATE/nspawn/base`."""
    named = environ.get("HYPERHIVE_NSPAWN_BASE") or setting
    return Path(named) if named else state_dir / "nspawn" / "base"


def check_base(base: Path) -> None:
    """Looks whether it will do. Blocks.

    Raises:
        MissingPart: there is none, or something that will not.
    """
    hint = (
        "`hyperhive doctor --make-base` makes one of Debian packages; nspawn_base in hive.toml names another"
    )
    if not base.is_dir():
        raise MissingPart(f"there is no base for containers at {base}", hint=hint)
    if not os.path.lexists(base / PYTHON):
        raise MissingPart(f"{base} is no base for containers: it has no /{PYTHON}", hint=hint)


async def make_base(base: Path, environ: Mapping[str, str], *, packages: Sequence[str] = PACKAGES) -> None:
    """Makes the base by mmdebstrap, of the release and the package sources of this machine. One that is there stays.

    It is made beside its place and renamed: nothing half made is ever taken for one.

    Raises:
        MissingPart: mmdebstrap is not there, or failed, with the last thing that it said.
        WorldError: something is mounted where it is to be made.
    """
    if await anyio.Path(base / PYTHON).is_file():
        return
    program = shutil.which("mmdebstrap", path=environ.get("PATH", os.defpath))
    if program is None:
        raise MissingPart(
            "mmdebstrap is not installed, which makes the base", hint="install the package mmdebstrap"
        )
    aside = base.with_name(f"{base.name}.new")
    await anyio.to_thread.run_sync(_clear, aside)
    # what it mounts in there (/proc, /dev) is in a namespace of its own, and gone with it, however it ends
    alone = ("unshare", "--mount", "--propagation", "private", "--")
    command = [*alone, program, *await anyio.to_thread.run_sync(_arguments, aside, packages)]
    with anyio.move_on_after(MAKE_SECONDS) as waiting:
        done = await anyio.run_process(command, check=False, stdin=None, env={**environ, "LC_ALL": "C.UTF-8"})
    if waiting.cancelled_caught:
        raise MissingPart(f"mmdebstrap did not end within {MAKE_SECONDS:.0f} s")
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise MissingPart(f"mmdebstrap failed: {' · '.join(said[-3:]) or done.returncode}")
    await anyio.to_thread.run_sync(_finish, aside, base)


def _clear(aside: Path) -> None:
    make_private(aside.parent)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (point := line.split()[4]) == str(aside) or point.startswith(f"{aside}/"):
            raise WorldError(f"{point} is mounted where the base is to be made", hint=f"umount {point}")
    shutil.rmtree(aside, ignore_errors=True)


def _finish(aside: Path, base: Path) -> None:
    for name in ("resolv.conf", "hosts"):  # something to put a container's own over
        if not os.path.lexists(aside / "etc" / name):
            (aside / "etc" / name).touch()
    aside.rename(base)


def _arguments(target: Path, packages: Sequence[str]) -> list[str]:
    """Blocks."""
    suite = "stable"
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            suite = line.partition("=")[2].strip('"')
    lists = [Path(_SOURCES[0]), *sorted(Path(_SOURCES[1]).glob("*.sources"))]
    return [
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        suite,
        str(target),
        *(str(each) for each in lists if each.is_file()),
    ]
