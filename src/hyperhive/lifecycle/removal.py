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
    """Deletes a directory with all that is in it; what cannot be deleted is added to `failures`."""
    if not place.exists() or place.is_symlink():
        return
    stubborn: list[str] = []
    shutil.rmtree(place, onerror=_into(stubborn))
    if stubborn:
        _give_rights(place)
        shutil.rmtree(place, onerror=_into(failures))


def _into(failures: list[str]) -> Callable[[object, str, object], None]:
    return lambda _function, path, info: failures.append(
        f"{path}: {info[1] if isinstance(info, tuple) else info}"
    )


def _give_rights(place: Path) -> None:
    """Makes every directory below enterable and writable for its owner again."""
    for _, _, _, here in os.fwalk(place, follow_symlinks=False, onerror=None):
        os.fchmod(here, 0o700)
        for name in os.listdir(here):  # noqa: PTH208 - of a descriptor, so that nothing is followed
            info = os.stat(name, dir_fd=here, follow_symlinks=False)
            if info.st_mode & 0o170000 == 0o040000:
                os.chmod(name, 0o700, dir_fd=here)
