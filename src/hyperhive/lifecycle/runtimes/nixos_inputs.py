"""What all containers of a hive share: the inputs of its flake that are no agent's, HyperHive itself and what it needs.

They are bumped as agents' are: a copy of the flake is made aside, Nix locks and builds everybody's system there, and
then its lock takes the place of the flake's, or is dropped. An agent's own inputs are what the operator approved: they
are no concern of this. When to bump, and what follows, is decided by who calls.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from hyperhive.errors import NotFound, WorldError
from hyperhive.lifecycle.runtimes.nixos_flake import MetaFlake
from hyperhive.lifecycle.runtimes.nixos_lock import listed, shared_digest
from hyperhive.names import AgentName
from hyperhive.protocol.screens import MetaInput

T = TypeVar("T")

NAMED_UPDATES: Final = (2, 19)
"""From this version of Nix on inputs are updated by `flake update`; before, by an option of `flake lock`."""


class OnFlake(Protocol):
    """Runs a piece of work on the flake's files, while nobody else does."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


class SharedInputs:
    """The shared inputs of one hive's flake.

    Args:
        flake: the hive's.
        on_flake: lets one at a time work on its files.
        nix: runs a command of Nix and returns what it printed; raises WorldError where that fails.
        system_of: what to build of the flake in a directory for an agent.
        strict: options of every evaluation.
    """

    def __init__(
        self,
        flake: MetaFlake,
        on_flake: OnFlake,
        nix: Callable[..., Awaitable[str]],
        system_of: Callable[[Path, AgentName], str],
        strict: Sequence[str],
    ) -> None:
        self._flake = flake
        self._on_flake = on_flake
        self._nix = nix
        self._system_of = system_of
        self._strict = strict
        self._outdated: set[AgentName] = set()

    def outdated(self, agent: AgentName) -> bool:
        """This agent's container was built from other inputs than the flake has now. Cheap."""
        return agent in self._outdated

    def note(self, agent: AgentName, *, outdated: bool) -> None:
        """Whether it is, as whoever looks at or builds its container finds."""
        (self._outdated.add if outdated else self._outdated.discard)(agent)

    async def digest(self) -> str:
        """Stands for all shared inputs as they are pinned now; empty where nothing is pinned yet."""
        return shared_digest(await self._on_flake(self._flake.lock))

    async def known(self) -> list[MetaInput]:
        """The shared inputs as they are pinned now; HyperHive itself, also where it is not pinned yet."""
        return listed(await self._on_flake(self._flake.lock))

    async def prepare(self, names: Sequence[str]) -> list[str]:
        """Makes a copy of the flake aside, in which these inputs are as new as they can be; says what is new there.

        Raises:
            NotFound: there is no such shared input. WorldError: it cannot be locked.
        """
        before = await self.known()
        paths = [_path_of(name, [one.name for one in before]) for name in names]
        place = await self._on_flake(self._flake.prepare_shared)
        if not (place / "flake.lock").exists():
            await self._nix("flake", "lock", f"path:{place}")
        if await self._version() >= NAMED_UPDATES:
            await self._nix("flake", "update", "--flake", f"path:{place}", *paths)
        else:
            options = [word for path in paths for word in ("--update-input", path)]
            await self._nix("flake", "lock", *options, f"path:{place}")
        after = listed(await self._on_flake(self._flake.lock_aside))
        old = {one.name: one.rev for one in before}
        return [
            f"{one.name}: {_short(old.get(one.name))} -> {_short(one.rev)}"
            for one in after
            if one.rev != old.get(one.name)
        ]

    async def build(self) -> None:
        """Builds everybody's system from what was prepared. Nothing that runs changes.

        Raises:
            WorldError: one cannot be built, and why.
        """
        place, agents = self._flake.shared_aside, sorted(await self._on_flake(self._flake.pins_aside))
        if agents:
            systems = [self._system_of(place, AgentName(agent)) for agent in agents]
            await self._nix("build", "--no-link", "--no-update-lock-file", *self._strict, *systems)

    async def finalize(self) -> list[AgentName]:
        """What was prepared is pinned now; returns whose container was built from something else. Idempotent.

        Raises:
            WorldError: it cannot be written.
        """
        agents = await self._on_flake(self._flake.finalize_shared)
        self._outdated.update(agents)
        return agents

    async def abort(self) -> None:
        """What was prepared is dropped. Idempotent."""
        await self._on_flake(self._flake.abort_shared)

    async def _version(self) -> tuple[int, int]:
        found = re.search(r"(\d+)\.(\d+)", await self._nix("--version"))
        if found is None:
            raise WorldError("nix does not tell its version")
        return int(found[1]), int(found[2])


def _path_of(name: str, known: Sequence[str]) -> str:
    """The whole name of a shared input, where only its last word was said.

    Raises:
        NotFound: there is none, or several.
    """
    found = [one for one in known if name in {one, one.rpartition("/")[2]}]
    if name in known:
        return name
    if len(found) != 1:
        raise NotFound(
            f"there is no shared input {name!r}",
            hint=f"there are {', '.join(known)}; an agent's own change by approval alone",
        )
    return found[0]


def _short(rev: str | None) -> str:
    return "none" if rev is None else rev.removeprefix("sha256-")[:12]
