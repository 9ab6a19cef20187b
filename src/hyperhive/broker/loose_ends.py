"""`LooseEnds`: what is still open, of one agent or of the whole hive, from whoever keeps such things.

Each kind (questions, reminders, approvals) is a source of its own, which says what it has and may cancel one. Nothing
here knows what they are.
"""

from collections.abc import Sequence
from typing import Protocol

from hyperhive.errors import Forbidden
from hyperhive.protocol.types import LooseEnd, LooseEndKind


class LooseEndSource(Protocol):
    """One kind of loose ends."""

    async def loose_ends(self, owner: str | None) -> Sequence[LooseEnd]:
        """What is open and concerns `owner`, or anybody (None)."""
        ...

    async def cancel(self, id: int, /, *, by: str, any: bool) -> object:  # noqa: A002 - the wire's names
        """Withdraws one. `any`: also where it is not `by`'s own.

        Raises:
            NotFound: there is none of this id. Forbidden: it is another's. Conflict: it is closed already.
        """
        ...


class LooseEnds:
    """The sources, and what is open in all of them."""

    def __init__(self) -> None:
        self._sources: dict[LooseEndKind, LooseEndSource] = {}

    def add(self, kind: LooseEndKind, source: LooseEndSource) -> None:
        """From now on this source's loose ends are shown, too."""
        self._sources[kind] = source

    async def open(self, owner: str | None = None) -> list[LooseEnd]:
        """What is open, the oldest first: what concerns `owner`, or the whole hive's (None)."""
        ends = [end for source in self._sources.values() for end in await source.loose_ends(owner)]
        return sorted(ends, key=lambda end: -end.age_seconds)

    async def cancel(self, kind: LooseEndKind, id: int, *, by: str, any: bool) -> None:  # noqa: A002
        """Withdraws one.

        Raises:
            Forbidden: it is another's, or none of its kind can be withdrawn. NotFound, Conflict: as its source says.
        """
        source = self._sources.get(kind)
        if source is None:
            raise Forbidden(f"a loose end of the kind {kind} cannot be cancelled")
        await source.cancel(id, by=by, any=any)
