"""What a proposed commit may hold: the rules for modes, paths and sizes, over git's own listing of its tree.

Every refusal names the path and the rule. The rules are narrow on purpose: a config repo holds a few small text files,
and what is not let in here need not be defended against anywhere later. Runs nothing, reads no file.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from hyperhive.errors import BadRequest, LimitReached
from hyperhive.terminal import visible

_PLAIN: Final = re.compile(r"[ !#-9;-\[\]-~]+")
"""Printable ASCII without quotes, colons and backslashes, which git, shells or diffs write in a form of their own."""

_SHORT_NAME: Final = re.compile(r"~\d", re.ASCII)
_MODES: Final = {"100644": "blob", "100755": "blob", "040000": "tree"}
_REFUSED: Final = {
    "120000": "symbolic links are not allowed",
    "160000": "submodules are not allowed",
}


class RepoLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a proposal may hold. All sizes in bytes."""

    pack: int = 32 << 20
    """All that may come over for one proposal, compressed, with the whole history of the repo's branches."""

    seconds: float = 60.0
    """Longest time for one proposal's import."""

    heads: int = 100
    """Branches in the proposed repo."""

    files: int = 2000
    """Files and directories in the commit."""

    file: int = 1 << 20
    """One file."""

    tree: int = 16 << 20
    """All files of the commit together."""

    path: int = 512
    """A path."""

    depth: int = 16
    """Directories in a path."""

    diff: int = 1 << 20
    """The text of a diff that can be approved."""

    diff_line: int = 20_000
    """One line of a diff that can be approved."""


class TreeFile(msgspec.Struct, frozen=True):
    """A file of a commit."""

    path: str
    mode: str
    blob: str
    size: int


def listing_limit(limits: RepoLimits) -> int:
    """The longest listing (`ls-tree -r -t -l -z`) of a tree that obeys the limits."""
    return (limits.files + 1) * (limits.path + 96)


def check_tree(listing: bytes, limits: RepoLimits, *, whole: bool = True) -> list[TreeFile]:
    """The files of a commit, each judged. `whole`: the listing was not cut off.

    Raises:
        BadRequest: a path or a mode is not allowed.
        LimitReached: too large, too deep, too many.
    """
    files: list[TreeFile] = []
    total = 0
    for count, (mode, kind, blob, size, path) in enumerate(_entries(listing), 1):
        if count > limits.files:
            raise LimitReached(
                f"the commit holds more than {limits.files} files and directories",
                hint="keep in the config what the agent's environment is made of, and work elsewhere",
            )
        if (fault := _mode_fault(mode, kind) or path_fault(path, limits)) is not None:
            raise BadRequest(f"{visible(path[:600])}: {fault}")
        if kind != "blob":
            continue
        if size > limits.file:
            raise LimitReached(f"{path}: {size} bytes, and a file may have {limits.file}")
        total += size
        if total > limits.tree:
            raise LimitReached(f"{path}: with it the commit's files have more than {limits.tree} bytes")
        files.append(TreeFile(path, mode, blob, size))
    if not whole:
        raise LimitReached(f"the list of the commit's files has more than {listing_limit(limits)} bytes")
    return files


def path_fault(path: str, limits: RepoLimits) -> str | None:
    """Which rule a path breaks; None where it is allowed."""
    if len(path) > limits.path:
        return f"a path may have {limits.path} characters"
    parts = path.split("/")
    if len(parts) > limits.depth:
        return f"a path may have {limits.depth} parts"
    if not _PLAIN.fullmatch(path):
        return 'a path may have printable ASCII characters alone, and none of " : \\'
    for part in parts:
        if (fault := _part_fault(part)) is not None:
            return fault
    return None


def _part_fault(part: str) -> str | None:
    low = part.lower()
    if low.rstrip(" .") != low or not low:
        return "a name may not be empty or end in a dot or a space"
    if low.startswith("-"):
        return "a name may not begin with a dash"
    if low in {".git", ".gitmodules"} or _SHORT_NAME.search(low):
        return "names that git or a file system takes for its own (.git, .gitmodules, git~1) are not allowed"
    return None


def _mode_fault(mode: str, kind: str) -> str | None:
    if mode in _REFUSED:
        return _REFUSED[mode]
    return None if _MODES.get(mode) == kind else f"the mode {mode} is not allowed"


def _entries(listing: bytes) -> Iterator[tuple[str, str, str, int, str]]:
    """Mode, kind, object, size and path of each; a last record that was cut off is left out."""
    for record in listing.split(b"\0")[:-1]:
        facts, _, path = record.partition(b"\t")
        mode, kind, blob, size = facts.decode("ascii").split()
        yield mode, kind, blob, int(size) if size.isdigit() else 0, path.decode(errors="backslashreplace")
