"""Making an agent's two repos: aside, in a directory of the core's own, then put in place in one step.

What was put in place is complete, so that a crash leaves either nothing or all of it. The proposed repo goes into a
directory where the manager may already have put anything: nothing there is followed, opened or replaced, and once it is
there no git of the core's ever runs in it.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.errors import WorldError
from hyperhive.lifecycle.removal import remove_tree
from hyperhive.lifecycle.repos.diffs import ATTRIBUTES
from hyperhive.lifecycle.repos.git import Git
from hyperhive.names import AgentName
from hyperhive.paths import Paths

IDENTITY: Final = "hyperhive <core@hyperhive.invalid>"
BRANCH: Final = "refs/heads/main"

APPLIED_CONFIG: Final = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\thooksPath = /dev/null
\tfsmonitor = false
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[receive]
\tdenyNonFastForwards = true
\tdenyDeletes = true
\tfsckObjects = true
[http]
\treceivepack = false
[daemon]
\treceivepack = false
"""

_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})
INIT: Final = ("init", "--quiet", "--template=", "--initial-branch=main", "--object-format=sha1")


class Maker:
    """Makes repos. All paths are the core's own but the last step's, which is `_put`'s."""

    def __init__(self, git: Git, paths: Paths, *, applied_seen: str, seed: Mapping[str, bytes]) -> None:
        self._git = git
        self._paths = paths
        self._applied_seen = applied_seen
        self._seed = seed

    async def applied(self, agent: AgentName) -> None:
        """The applied repo with its first commit, where there is none. Idempotent.

        Raises:
            WorldError: something else has its place, or the disk refuses.
        """
        target = self._paths.applied_repo(agent)
        if await anyio.to_thread.run_sync(_is_there, target):
            return
        room = self._paths.staging / f"{agent}.applied"
        await anyio.to_thread.run_sync(clear, room)
        await self._git.run(None, *INIT, "--bare", "--", str(room))
        await self._git.run(room, "fast-import", "--quiet", stdin=_first_commit(self._seed))
        await anyio.to_thread.run_sync(finish_applied, room, target)

    async def proposed(self, agent: AgentName) -> None:
        """The proposed repo with main as it is applied now, where there is none. Idempotent.

        Raises:
            WorldError: the place cannot be entered without following a link, or the disk refuses.
        """
        if await anyio.to_thread.run_sync(has_proposed, self._paths, agent):
            return
        room = self._paths.staging / f"{agent}.proposed"
        await anyio.to_thread.run_sync(clear, room)
        await self._git.run(None, *INIT, "--", str(room))
        repo = room / ".git"
        source = self._paths.applied_repo(agent)
        both = (f"{BRANCH}:{BRANCH}", f"{BRANCH}:refs/remotes/origin/main")
        await self._git.run(
            repo, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--no-auto-maintenance", "--update-head-ok", "--end-of-options", str(source), *both, protocol="file",
        )  # fmt: skip
        await anyio.to_thread.run_sync(_undo_attributes, repo)  # what is applied came from an agent once
        await self._git.run(repo, "read-tree", "--reset", "-u", BRANCH, env={"GIT_WORK_TREE": str(room)})
        config = _proposed_config(f"{self._applied_seen}/{agent}")
        await anyio.to_thread.run_sync((repo / "config").write_text, config)
        await anyio.to_thread.run_sync((repo / "info" / "attributes").unlink)
        await anyio.to_thread.run_sync(_put, self._paths, agent, room)


def has_proposed(paths: Paths, agent: AgentName) -> bool:
    """Whether anything bears the name `.git` in the proposed directory, whatever it is. Blocks."""
    with _opened(paths, agent) as place:
        try:
            os.stat(".git", dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def open_proposed(paths: Paths, agent: AgentName) -> int:
    """The proposed directory as a descriptor, which the caller closes. Blocks.

    Raises:
        WorldError: something else has its place, a link perhaps.
    """
    with _opened(paths, agent) as place:
        return os.dup(place)


def clear_stale(paths: Paths) -> None:
    """Removes what a git that died left: locks and half-written files in the applied repos, all of staging. Blocks.

    To be called when no git of the hive's runs: nothing else writes there.
    """
    failures: list[str] = []
    if paths.staging.is_dir():
        for left in paths.staging.iterdir():
            remove_tree(left, failures)
    if paths.applied.is_dir():
        for repo in paths.applied.iterdir():
            stale = (
                *repo.glob("*.lock"), *repo.glob("refs/**/*.lock"),
                *repo.glob("objects/??/tmp_obj_*"), *repo.glob("objects/pack/tmp_*"), *repo.glob("objects/tmp_*"),
            )  # fmt: skip
            for left in stale:
                remove_tree(left, failures)
    if failures:
        raise WorldError(f"what a crash left cannot be removed: {failures[0]}")


def _is_there(target: Path) -> bool:
    """Raises WorldError where something else is there."""
    if not os.path.lexists(target):
        return False
    if not (target / "HEAD").is_file():
        raise WorldError(f"{target} is no applied repo of this version", hint="move it away")
    return True


def _first_commit(seed: Mapping[str, bytes]) -> bytes:
    """A fast-import stream; the same files give the same commit id on every machine."""
    parts = [
        f"commit {BRANCH}\ncommitter {IDENTITY} 0 +0000\n".encode(),
        _data(b"The config of a new agent\n"),
    ]
    for name, content in sorted(seed.items()):
        parts += [f"M 100644 inline {name}\n".encode(), _data(content)]
    parts.append(f"reset refs/tags/deployed/0\nfrom {BRANCH}\n\n".encode())
    return b"".join(parts)


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def finish_applied(room: Path, target: Path) -> None:
    """Gives a bare repo in staging the core's configuration, and puts it in place. Blocks.

    Raises:
        WorldError: something has its place.
    """
    (room / "config").write_text(APPLIED_CONFIG)
    _undo_attributes(room)
    _sync_tree(room)
    try:
        room.rename(target)
    except OSError as error:
        raise WorldError(f"{target} cannot be made: {error.strerror}") from error
    _sync(target.parent)


def _undo_attributes(repo: Path) -> None:
    """No attribute of a file in a tree holds in this repo."""
    (repo / "info").mkdir(exist_ok=True)
    (repo / "info" / "attributes").write_text(ATTRIBUTES)


def _proposed_config(origin: str) -> str:
    return (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogAllRefUpdates = true\n"
        f'[remote "origin"]\n\turl = {origin}\n\tfetch = +refs/heads/main:refs/remotes/origin/main\n'
        '[branch "main"]\n\tremote = origin\n\tmerge = refs/heads/main\n'
        "[user]\n\tname = manager\n\temail = manager@hyperhive.invalid\n"
    )


def _put(paths: Paths, agent: AgentName, room: Path) -> None:
    """Moves what was made into the manager's directory, `.git` last: it says that all is there.

    What has a name already keeps it: the manager put it there.
    """
    with _opened(paths, agent) as place:
        owner = os.fstat(place)
        if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, 0):  # an agent with a uid of its own
            _give(room, owner.st_uid, owner.st_gid)
        _sync_tree(room)
        for name in (*sorted(set(os.listdir(room)) - {".git"}), ".git"):  # noqa: PTH208 - names are wanted
            made = room / name
            try:
                if made.is_dir():
                    os.rename(made, name, dst_dir_fd=place)
                else:
                    os.link(made, name, dst_dir_fd=place)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise WorldError(
                        f"the proposed repo of {agent} cannot be made: {error.strerror}"
                    ) from error
        os.fsync(place)
    clear(room)


@contextmanager
def _opened(paths: Paths, agent: AgentName) -> Iterator[int]:
    """The agent's proposed directory, made where it is missing, entered without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(paths.proposed, flags & ~os.O_NOFOLLOW)  # the operator may keep it elsewhere
    try:
        for name in (agent, "config"):
            try:  # noqa: SIM105 - the other way round would be two looks
                os.mkdir(name, 0o700, dir_fd=here)
            except FileExistsError:
                pass
            inner = os.open(name, flags, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    except (NotADirectoryError, PermissionError) as error:
        raise WorldError(
            f"{paths.proposed_config(agent)} is no directory of the hive", hint="move away what has its place"
        ) from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise WorldError(
            f"{paths.proposed_config(agent)} is a link", hint="move away what has its place"
        ) from error
    finally:
        os.close(here)


def _give(room: Path, uid: int, gid: int) -> None:
    for top, directories, files in os.walk(room):
        for name in (".", *directories, *files):
            os.chown(Path(top) / name, uid, gid, follow_symlinks=False)


def _sync_tree(room: Path) -> None:
    for top, _, files in os.walk(room):
        for place in (top, *(os.path.join(top, name) for name in files)):  # noqa: PTH118 - as walk gives them
            _sync(Path(place))


def _sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def clear(room: Path) -> None:
    """Removes a directory of the core's own, whatever is in it. Blocks.

    Raises:
        WorldError: something stays.
    """
    failures: list[str] = []
    remove_tree(room, failures)
    if failures:
        raise WorldError(f"{room} cannot be emptied: {failures[0]}")
