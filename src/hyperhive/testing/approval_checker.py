"""`ApprovalChecker`: was this history of approvals a legal one?

It is told what people saw and were answered, in any number of lives of the hive, and reads the audit table at the end.
Knows nothing of how a queue or a deploy works, only what they promise.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from hyperhive.lifecycle.approvals.audit import Entry
from hyperhive.testing.checker import Violation

_PATHS = {
    ("requested",),
    ("requested", "denied"),
    ("requested", "failed"),
    ("requested", "approved", "deployed"),
    ("requested", "approved", "failed"),
    ("rollback", "deployed"),
    ("rollback", "failed"),
}
"""What may happen to one approval in the end. `approved` alone is no end: it would hang."""


class ApprovalChecker:
    """Raises at the first thing that may not be.

    Promises: one legal path for each approval, and one decision, by the operator; what was answered has happened; what
    was deployed is the commit that was seen; main and tags hold what was deployed, and nothing else ever did.
    """

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}
        self._answered: dict[int, str] = {}
        self._mains: list[str] = []
        self._tried: dict[str, int] = defaultdict(int)

    def saw(self, number: int, sha: str) -> None:
        """The operator was shown this commit."""
        self._seen[number] = sha

    def answered(self, number: int, word: str) -> None:
        """`approved`, `denied` or `requested` was answered: it is durable from now on."""
        if word != "requested" and self._answered.get(number) in {"approved", "denied"}:
            raise Violation(f"approval {number} was decided twice")
        self._answered[number] = word

    def main_is(self, sha: str) -> None:
        """What main is now; to be called whenever it may have moved."""
        if not self._mains or self._mains[-1] != sha:
            self._mains.append(sha)

    def finish(self, audit: Sequence[Entry], tags: Mapping[str, str], began_at: Iterable[str]) -> None:
        """Looks at everything. `audit`: newest first. `began_at`: what main was before.

        Raises:
            Violation: a promise was broken.
        """
        paths: dict[int, list[Entry]] = defaultdict(list)
        for entry in reversed(audit):
            paths[entry.approval].append(entry)
        for number, entries in paths.items():
            self._check_path(number, entries)
        for number, word in self._answered.items():
            if word not in {entry.action for entry in paths[number]}:
                raise Violation(f"approval {number} was answered {word!r}, and is not")
        deployed = {entry.sha for entry in audit if entry.action == "deployed" and entry.sha}
        if strays := [sha for sha in self._mains if sha not in {*deployed, *began_at}]:
            raise Violation(f"main was at {strays}, which was never deployed")
        self._check_tags(paths, tags)

    def _check_path(self, number: int, entries: Sequence[Entry]) -> None:
        actions = tuple(entry.action for entry in entries)
        if actions not in _PATHS:
            raise Violation(f"approval {number} went {' → '.join(actions)}")
        for entry in entries:
            decides = entry.action in {"approved", "denied", "rollback"}
            if decides and entry.who != "operator":
                raise Violation(f"approval {number} was {entry.action} by {entry.who}")
        if actions[-1] == "deployed" and number in self._seen and entries[-1].sha != self._seen[number]:
            raise Violation(f"approval {number} was deployed at another commit than the one seen")

    def _check_tags(self, paths: Mapping[int, Sequence[Entry]], tags: Mapping[str, str]) -> None:
        for number, entries in paths.items():
            last = entries[-1]
            if not last.sha:
                continue
            for word in ("deployed", "failed", "denied"):
                there = tags.get(f"{word}/{number}")
                if (there is not None) is not (last.action == word):
                    raise Violation(f"tag {word}/{number} does not fit the end {last.action!r}")
                if there is not None and there != last.sha:
                    raise Violation(f"tag {word}/{number} is at another commit")
