"""What an agent's NixOS container is started with: its conf file, nspawn's flags, its unit's limits. Text only.

`nixos-container create` writes the conf, the hive rewrites it: it adds its own mark, and the flags, which `create`
never writes. The unit takes the flags apart at blanks without any quoting: nothing with a blank can be shown.
"""

import fcntl
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.config import Network
from hyperhive.errors import InvalidName, WorldError
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.nixos_flake import check_plain
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import (
    BOX_AGENTS,
    BOX_APPLIED,
    BOX_CLAUDE,
    BOX_HARNESS_RUN,
    BOX_RUN,
    BOX_STATE,
    Paths,
)

NAME_MAX: Final = 11
"""A container's name is part of its network interface's, which has 15 bytes."""

MARK: Final = "OWNED_BY_HIVE"
"""Key of the hive that the container belongs to; the unit hands it on and nobody reads it."""
STARTED: Final = "OWNED_STARTED_AS"
"""Key of the digest of everything that the container was started with last."""
BUILT: Final = "OWNED_BUILT_FROM"
"""Key of the commit and revision that its system was built from."""

BOX_HARNESS_STATE: Final = "/var/lib/hive-harness"

_ADDRESSES: Final = frozenset({"HOST_ADDRESS", "LOCAL_ADDRESS"})
_LINE: Final = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


def check_name(agent: AgentName) -> AgentName:
    """The same name, if a container can bear it.

    Raises:
        InvalidName: it is too long.
    """
    if len(agent) > NAME_MAX:
        raise InvalidName(agent, f"a NixOS container's name has at most {NAME_MAX} characters")
    return agent


# --- the conf file --------------------------------------------------------------------------------------------------


def parse_conf(text: str) -> dict[str, str]:
    """The keys of a conf file, in order. Comments and what is no assignment are dropped, as systemd does."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {one[1]: _unquoted(one[2]) for one in found if one is not None}


def render_conf(keys: Mapping[str, str]) -> str:
    """A conf file with these keys. No value of ours needs quoting but the flags, which have blanks."""
    return "".join(
        f'{key}="{value}"\n' if " " in value else f"{key}={value}\n" for key, value in keys.items()
    )


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value


def network_keys(network: Network, addresses: tuple[str, str]) -> dict[str, str]:
    """`host`: no network of its own. `out`: one with a way to the host, which lets it out. `none`: one without."""
    host, local = addresses if network == "out" else ("", "")
    return {
        "PRIVATE_NETWORK": "0" if network == "host" else "1",
        "HOST_ADDRESS": host,
        "LOCAL_ADDRESS": local,
        "COPY_RESOLV_CONF": "0" if network == "none" else "1",
    }


def free_addresses(confs: Path) -> tuple[str, str]:
    """A pair that no container's conf has. Blocks; under `addresses_locked`.

    Raises:
        WorldError: there is none.
    """
    texts = [conf.read_text() for conf in confs.glob("*.conf")]
    used = {value for text in texts for key, value in parse_conf(text).items() if key in _ADDRESSES}
    for number in range(1, 255):
        pair = (f"10.233.{number}.1", f"10.233.{number}.2")
        if not used & {*pair}:
            return pair
    raise WorldError("there is no address left for another container")


@contextmanager
def addresses_locked(lock_file: Path) -> Iterator[None]:
    """Nobody else gives away addresses meanwhile: the lock is `nixos-container`'s own. Blocks."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory of the host's, shown in a container."""

    source: Path
    target: str
    writable: bool = False

    @property
    def flag(self) -> str:
        """As nspawn's. Raises: BadConfig: a path cannot be written there."""
        word = "--bind" if self.writable else "--bind-ro"
        return f"{word}={check_plain(self.source)}:{check_plain(Path(self.target))}"


def binds(paths: Paths, agent: AgentName, mounts: Sequence[ResolvedMount]) -> list[Bind]:
    """Everything that an agent's container shows. Directories alone: a socket's file changes when the core restarts."""
    shown = [
        Bind(paths.agent_state(agent), BOX_STATE, writable=True),
        Bind(paths.agent_claude(agent), BOX_CLAUDE, writable=True),
        Bind(paths.agent_harness(agent), BOX_HARNESS_STATE, writable=True),
        Bind(paths.tools_dir(agent), BOX_RUN),
        Bind(paths.harness_dir(agent), BOX_HARNESS_RUN),
    ]
    if agent == MANAGER:
        shown += [Bind(paths.proposed, BOX_AGENTS, writable=True), Bind(paths.applied, BOX_APPLIED)]
    else:
        shown.append(Bind(paths.proposed_config(agent), f"{BOX_AGENTS}/{agent}/config"))
    return shown + [Bind(one.source, one.target, writable=one.writable) for one in mounts]


def flags(shown: Sequence[Bind]) -> str:
    """The value of EXTRA_NSPAWN_FLAGS. Raises: BadConfig: a path cannot be written there."""
    return " ".join(bind.flag for bind in shown)


def drop_in(limits: ResourceLimits) -> str:
    """What is added to the container's unit: the agent's limits. Swap would let it go round the first one."""
    return (
        "# Written by HyperHive for as long as the agent is there.\n[Service]\n"
        f"MemoryMax={limits.memory}\nMemorySwapMax=0\nTasksMax={limits.pids}\n"
        f"CPUQuota={max(1, round(limits.cpu * 100))}%\nLimitFSIZE={limits.disk}\n"
    )


def digest(*parts: object) -> str:
    """Of whatever a container is started with."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=12).hexdigest()
