"""What may wait for a human, and how it is put into a line for a small screen. Pure.

A notice leaves the host, so a text is cut, its control characters are made visible and what looks like a key is masked;
diffs and the inputs of tools never get here.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from hyperhive.config import MatterKind
from hyperhive.terminal import visible

TEXT_MAX: Final = 200
TITLE_MAX: Final = 120

_LOOKS_SECRET: Final = re.compile(
    r"sk-[A-Za-z0-9_-]{8,}|gh[a-z]_[A-Za-z0-9]{20,}|xox[a-z]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}"
    r"|(?i:bearer|token|password|secret|api[_-]?key)\s*[=:]\s*\S+"
)
_MASK: Final = "•••"


class Matter(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits for a human.

    `kind` and `id` name it: while it waits it is told of once, whatever is restarted or replayed. One that was settled
    and comes up again is told of again.
    """

    kind: MatterKind
    id: str
    agent: str | None = None
    title: str
    text: str = ""

    @property
    def key(self) -> str:
        """Names the matter."""
        return f"{self.kind}:{self.id}"


Mask = Callable[[str], str]


def masker(secrets: Callable[[], Iterable[str]]) -> Mask:
    """Masks the secrets given, and what is shaped like one."""

    def mask(text: str) -> str:
        for secret in secrets():
            if secret:
                text = text.replace(secret, _MASK)
        return _LOOKS_SECRET.sub(_MASK, text)

    return mask


def presentable(text: str, limit: int, mask: Mask) -> str:
    """One short line that is fit to leave the host."""
    line = visible(" ".join(mask(text).split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def summary(matters: Iterable[Matter]) -> tuple[str, str]:
    """Title and text of one notice for many matters."""
    counts: dict[str, int] = {}
    agents: dict[str, None] = {}
    for matter in matters:
        counts[matter.kind] = counts.get(matter.kind, 0) + 1
        if matter.agent is not None:
            agents[matter.agent] = None
    total = sum(counts.values())
    kinds = ", ".join(f"{count} x {kind}" for kind, count in counts.items())
    names = list(agents)
    who = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{total} things need you", f"{kinds}{f' ({who})' if who else ''}"
