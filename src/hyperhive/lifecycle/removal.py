"""Deleting what an agent left on disk, which it may have made hard to delete. Nothing else is decided here.

Works through directory descriptors (no symlink is followed), and gives a directory that its owner made unwritable its
rights back first. To be called when nothing of the agent runs any more.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hyperhive.errors import StoreFailed
from hyperhive.names import AgentName
from hyperhive.paths import Paths


def purge_files(paths: Paths, name: AgentName) -> None:
    """Deletes state, credentials, both repos and socket directories of an agent. Blocks. Idempotent.

    Raises:
        StoreFailed: something cannot be deleted; the rest is.
    """
    places = (
        paths.agent_dir(name), paths.proposed / name, paths.applied_repo(name),
        paths.tools_dir(name), paths.harness_dir(name),
    )  # fmt: skip
    failures: list[str] = []
    for place in places:
        remove_tree(place, failures)
    if failures:
        raise StoreFailed(f"not everything of {name} could be deleted: {failures[0]}")


def remove_tree(place: Path, failures: list[str]) -> None:
    """Deletes what is at this place: a directory with all that is in it; of a link, the link.

    What cannot be deleted is added to `failures`.
    """
    if not place.is_symlink() and place.is_dir():
        stubborn: list[str] = []
        shutil.rmtree(place, onerror=_into(stubborn))
        if stubborn:
            _give_rights(place)
            shutil.rmtree(place, onerror=_into(failures))
        return
    try:
        place.unlink(missing_ok=True)
    except OSError as error:
        failures.append(f"{place}: {error}")


def _into(failures: list[str]) -> Callable[[object, str, object], None]:
    return lambda _function, path, info: failures.append(
        f"{path}: {info[1] if isinstance(info, tuple) else info}"
    )


def _give_rights(place: Path) -> None:
    """Makes every directory below enterable and writable for its owner again."""
    _give_right(str(place), None)
    for _, names, _, here in os.fwalk(place, follow_symlinks=False):
        for name in names:
            _give_right(name, here)


def _give_right(name: str, here: int | None) -> None:
    """By a descriptor of the directory itself: a name may be another's by the time that its mode is changed."""
    try:
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
    except OSError:  # a link, or gone; what still is in the way is told by the deleting
        return
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # noqa: PTH101 - fchmod refuses a descriptor that cannot read
    except OSError:
        pass
    finally:
        os.close(fd)
