"""The diff that the operator decides on: every change between two commits, as one text with one hash.

The text is made from the two commits alone. Nothing in the repo can change how it is shown: attributes, text
conversions, external programs and renames are off (`applied` repos carry an `info/attributes` that undoes those of the
tree). Every changed path is in it, files that are not text by the ids of their contents. Characters that do not show,
or look like others, are named beside it. `show_hidden` is for screens.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.errors import TimedOut
from hyperhive.lifecycle.repos.git import Git, TooMuch
from hyperhive.lifecycle.repos.trees import RepoLimits
from hyperhive.terminal import visible

ATTRIBUTES: Final = (
    "* !diff !text !eol !crlf !filter !ident !working-tree-encoding !merge !conflict-marker-size\n"
)
"""`info/attributes` outranks every file in a tree, and `!` takes a file's attribute back."""

_COMMON: Final = (
    "-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--no-commit-id", "--full-index",
    "--ignore-submodules=none", "--no-relative", "--diff-algorithm=myers", "--no-indent-heuristic",
)  # fmt: skip
_PATCH: Final = ("-p", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/")
_WARNINGS_MAX: Final = 50
_WORD: Final = re.compile(r"\w+")
_WRITTEN_TOGETHER: Final = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"}
)
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One changed path. `status`: A added, M modified, D deleted, T of another kind.

    Where there is no content on a side, its id is all zeros and its mode 000000.
    """

    path: str
    status: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str
    binary: bool = False


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    r"""What stands between two commits.

    `sha256` is of `text`, encoded as UTF-8. A byte that is no UTF-8 stands in the text as `\xNN`; as the text names
    the full ids of both contents of each file, it stands for exactly one pair of trees all the same. Where `too_big`
    is set, the text is only the list of changes and must not be approved.
    """

    text: str
    sha256: str
    files: list[ChangedFile]
    too_big: bool = False
    hidden: list[str] = msgspec.field(default_factory=list)


async def make_diff(git: Git, repo: Path, base: str, sha: str, limits: RepoLimits) -> Diff:
    """The diff between two commits of an applied repo, both named by their full ids."""
    raw = await git.read(repo, "diff-tree", "--raw", "-z", *_COMMON, base, sha, "--")
    files = _changes(raw)
    try:
        counts = await git.read(repo, "diff-tree", "--numstat", "-z", *_COMMON, base, sha, "--")
        patch = await git.read(repo, "diff-tree", *_PATCH, *_COMMON, base, sha, "--", limit=limits.diff)
    except (TooMuch, TimedOut):
        return _too_big(files)
    binary = {record.split(b"\t", 2)[2] for record in counts.split(b"\0") if record.startswith(b"-\t-\t")}
    files = [msgspec.structs.replace(file, binary=file.path.encode() in binary) for file in files]
    if any(len(line) > limits.diff_line for line in patch.split(b"\n")):
        return _too_big(files)
    text = patch.decode(errors="backslashreplace")
    return Diff(text=text, sha256=_digest(text), files=files, hidden=_warnings(patch, text, files))


def show_hidden(text: str) -> str:
    r"""A diff's text for a screen: every control, format or unassigned character as `\u{..}`, but for newlines.

    Nothing is lost: a backslash that looks like such an escape is escaped itself (`terminal.visible`).
    """
    return "\n".join(map(visible, text.split("\n")))


def _too_big(files: list[ChangedFile]) -> Diff:
    text = "".join(f"{file.status} {file.old_blob} {file.new_blob} {file.path}\n" for file in files)
    return Diff(text=text, sha256=_digest(text), files=files, too_big=True)


def _changes(raw: bytes) -> list[ChangedFile]:
    words = raw.split(b"\0")
    changes = []
    for facts, path in zip(words[::2], words[1::2], strict=False):
        old_mode, new_mode, old_blob, new_blob, status = facts.decode("ascii").removeprefix(":").split()
        changes.append(
            ChangedFile(
                path=path.decode(errors="backslashreplace"),
                status=status,
                old_mode=old_mode,
                new_mode=new_mode,
                old_blob=old_blob,
                new_blob=new_blob,
            )
        )
    return changes


def _warnings(patch: bytes, text: str, files: list[ChangedFile]) -> list[str]:
    """What a reader of the text would not see."""
    found = [f"{file.path} is no text: its content is not shown" for file in files if file.binary]
    if text.encode() != patch:
        found.append(r"there are bytes that are no UTF-8: they are shown as \xNN")
    seen: set[tuple[str, str]] = set()
    path = ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("diff --git a/"):
            path = line.rpartition(" b/")[2]
        for char in line if not line.isprintable() else "":
            if char != "\t" and unicodedata.category(char) in _HIDDEN and (path, char) not in seen:
                seen.add((path, char))
                name = unicodedata.name(char, "a control character")
                found.append(f"{path}: line {number} of the diff has U+{ord(char):04X} ({name})")
        for char in () if line.isascii() else strangers(line):
            if (path, char) not in seen:
                seen.add((path, char))
                name = f"{unicodedata.name(char)}, in a word of another script"
                found.append(f"{path}: line {number} of the diff has U+{ord(char):04X} ({name})")
    if len(found) > _WARNINGS_MAX:
        found[_WARNINGS_MAX:] = [f"and {len(found) - _WARNINGS_MAX} more"]
    return found


def strangers(line: str) -> list[str]:
    """Letters that look at home in a word and are of another script than the rest: `p\u0430ypal` has one.

    Of each word that mixes scripts, the first letter of the script that fewer of its letters are of.
    """
    found = []
    for word in _WORD.findall(line):
        if word.isascii():
            continue
        letters = [(char, script(char)) for char in word if char.isalpha()]
        counts = Counter(name for _, name in letters)
        if len(counts) > 1:
            rarest = min(counts, key=lambda name: counts[name])
            found.append(next(char for char, name in letters if name == rarest))
    return found


@lru_cache(maxsize=4096)
def script(letter: str) -> str:
    """The script of a letter, by its name. Those that Japanese and Korean write in one word count as one."""
    first = unicodedata.name(letter, "?").split(" ", 1)[0]
    return "CJK" if first in _WRITTEN_TOGETHER else first


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
