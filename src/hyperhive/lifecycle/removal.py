"""Deleting what an agent left on disk, which it may have made hard to delete. Nothing else is decided here.

Works through directory descriptors (no symlink is followed), gives a directory that its owner made unwritable its
rights back first, and takes no more memory, stack or descriptors for a deep tree than for a flat one. To be called
when nothing of the agent runs any more.
"""

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hyperhive.errors import StoreFailed
from hyperhive.names import AgentName
from hyperhive.paths import Paths

_TAKEN: Final = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


def purge_files(paths: Paths, name: AgentName) -> None:
    """Deletes state, credentials, both repos and socket directories of an agent. Blocks. Idempotent.

    Raises:
        StoreFailed: something cannot be deleted; the rest is.
    """
    remove_sockets(paths, name)
    places = (paths.agent_dir(name), paths.proposed / name, paths.applied_repo(name))
    failures: list[str] = []
    for place in places:
        remove_tree(place, failures)
    if failures:
        raise StoreFailed(f"not everything of {name} could be deleted: {failures[0]}")


def remove_sockets(paths: Paths, name: AgentName) -> None:
    """Deletes an agent's socket directories. Blocks. Idempotent.

    Raises:
        StoreFailed: something cannot be deleted; the rest is.
    """
    failures: list[str] = []
    for place in (paths.tools_dir(name), paths.harness_dir(name)):
        remove_tree(place, failures)
    if failures:
        raise StoreFailed(f"not all sockets of {name} could be deleted: {failures[0]}")


def remove_tree(place: Path, failures: list[str]) -> None:
    """Deletes what is at this place: a directory with all that is in it; of a link, the link.

    What cannot be deleted is added to `failures`. The depth of a tree is its maker's choice, so nothing here goes down
    into it: each directory gives its own directories to the topmost one, and is empty then.
    """
    try:
        try:
            with _opened(str(place)) as top:
                failures += [f"{place}: {reason}" for reason in _empty(top)]
            place.rmdir()
        except NotADirectoryError:
            place.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        failures.append(f"{place}: {error}")


def _empty(top: int) -> Iterator[str]:
    """Empties a directory; gives the reason for each thing in it that stays."""
    numbers = itertools.count()
    stuck: set[str] = set()
    while names := set(os.listdir(top)) - stuck:  # of a descriptor, so that nothing is followed
        for name in names:
            try:
                _remove(name, top, numbers)
            except FileNotFoundError:  # a directory took its name, and its turn
                continue
            except OSError as error:
                stuck.add(name)
                yield str(error)


def _remove(name: str, top: int, numbers: Iterator[int]) -> None:
    """Deletes something in `top`; of a directory all but the directories in it, which become `top`'s.

    Raises:
        OSError: the first of what went wrong; the rest is done.
    """
    failure: OSError | None = None
    try:
        with _opened(name, top) as here:
            for inner in os.listdir(here):  # noqa: PTH208 - as above
                try:
                    try:
                        os.unlink(inner, dir_fd=here)
                    except IsADirectoryError:
                        _raise_up(inner, here, top, numbers)
                except OSError as error:
                    failure = failure or error
    except NotADirectoryError:
        os.unlink(name, dir_fd=top)
        return
    if failure is not None:
        raise failure
    os.rmdir(name, dir_fd=top)


def _raise_up(name: str, here: int, top: int, numbers: Iterator[int]) -> None:
    """Makes a directory of `here` one of `top`, under the next number that is free."""
    with _opened(name, here):  # its owner may have taken its rights away, and it needs them to be moved
        pass
    for number in numbers:
        try:
            os.rename(name, str(number), src_dir_fd=here, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return


@contextmanager
def _opened(name: str, here: int | None = None) -> Iterator[int]:
    """A directory as a descriptor, with all rights for its owner.

    The rights are given by a descriptor of the directory itself: a name may be another's by the time that its mode is
    changed.

    Raises:
        NotADirectoryError: it is something else, a link for one.
    """
    itself = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
    try:
        with suppress(OSError):  # it may do without
            os.chmod(f"/proc/self/fd/{itself}", 0o700)  # noqa: PTH101 - fchmod refuses a descriptor that cannot read
        readable = os.open(f"/proc/self/fd/{itself}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(itself)
    try:
        yield readable
    finally:
        os.close(readable)
