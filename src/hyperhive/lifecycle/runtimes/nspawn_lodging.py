"""What an agent's own nspawn container is made of: its harness's root and its programs', two users, one set of binds.

The agent's programs see what they see in any of the agent's boxes: the base, and the agent's own. The harness is root
of the container and lives under `VIEW`, which nobody else may enter: the machine's /usr and Python there, so that the
base need not fit the hive, with the directories that it keeps and the core's socket. Runs nothing.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

import hyperhive
from hyperhive.agent_cli import PASSED_THROUGH, PROXIES
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.lifecycle.runtimes.bwrap_command import MACHINE_FILES
from hyperhive.lifecycle.runtimes.inside import AGENT_UID, HARNESS_STATE, INSIDE, INSIDE_ROOT
from hyperhive.lifecycle.runtimes.mapped_mounts import exchange
from hyperhive.lifecycle.runtimes.nspawn_command import BOX_FILES, STAGE, Bind
from hyperhive.lifecycle.runtimes.uid_ranges import RANGE
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

VIEW: Final = BOX_HARNESS_RUN
"""The harness's root, as the container's others are told of it: they cannot enter it."""
VIEW_ROOT_FD: Final = 3
"""The harness's descriptor of the root that the agent's programs have."""
CLI: Final = f"{BOX_FILES}/claude"
MEMORY: Final = {VIEW: "0700", f"{VIEW}/tmp": "0700", BOX_FILES: "0755"}  # noqa: S108 - the container's own
"""Directories in memory, and their modes. What keeps all others out of the harness's root is the first one's."""
CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")
"""What the harness needs to be root over its agent, and no more."""

_TOPS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EXTRA_MCP: Final = Path("/etc/hyperhive/extra-mcp.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A directory or file of the machine, where the container shows it, and whose it is there."""

    source: Path
    targets: Sequence[str]
    writable: bool = False
    owner: Literal["agent", "harness"] = "agent"


def shown(paths: Paths, agent: AgentName, mounts: Sequence[ResolvedMount], cli: Path) -> Iterator[Shown]:
    """All that is not the same for every agent."""
    for source, target, writable in (
        (paths.agent_state(agent), BOX_STATE, True),
        (paths.agent_claude(agent), BOX_CLAUDE, True),
        (paths.tools_dir(agent), BOX_RUN, False),
        (cli, CLI, False),
    ):
        yield Shown(source=source, targets=(target, VIEW + target), writable=writable)
    keeps = paths.agent_harness(agent)
    yield Shown(source=keeps, targets=(f"{VIEW}{HARNESS_STATE}",), writable=True, owner="harness")
    yield Shown(source=paths.harness_dir(agent), targets=(VIEW + BOX_HARNESS_RUN,), owner="harness")
    if agent == MANAGER:
        yield Shown(source=paths.proposed, targets=(BOX_AGENTS,), writable=True)
        yield Shown(source=paths.applied, targets=(BOX_APPLIED,))
    else:
        yield Shown(source=paths.proposed_config(agent), targets=(f"{BOX_AGENTS}/{agent}/config",))
    for mount in mounts:
        yield Shown(source=mount.source, targets=(mount.target,), writable=mount.writable)


def true_binds(all_shown: Sequence[Shown]) -> list[Bind]:
    """As the machine has them: for the places that they need."""
    return [Bind(source=one.source, target=target) for one in all_shown for target in one.targets]


def staged(all_shown: Sequence[Shown], first: int) -> tuple[list[tuple[str, str, str, str]], list[Bind]]:
    """Which source is mounted where aside with which maps of owners, and how the container binds that. Blocks."""
    aside, binds = [], []
    for number, one in enumerate(all_shown):
        place = f"{STAGE}/{number}"
        found = one.source.stat()
        uid = AGENT_UID if one.owner == "agent" else 0
        maps = [exchange(owner, uid, ids=RANGE, first=first) for owner in (found.st_uid, found.st_gid)]
        aside.append((str(one.source), place, maps[0], maps[1]))
        binds += [
            Bind(source=Path(place), target=target, writable=one.writable, mapped=False)
            for target in one.targets
        ]
    return aside, binds


def machine_binds(environ: Mapping[str, str]) -> Iterator[Bind]:
    """The machine's programs and Python, and certificates that the operator named, for the harness alone. Blocks."""
    places = [Path("/usr"), *(Path("/", top) for top in _TOPS if Path("/", top).is_dir()), *_python()]
    for place in places:
        if not place.is_symlink():
            yield Bind(source=place, target=f"{VIEW}{place}", mapped=False)
    named = [Path(environ[name]) for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS") if environ.get(name)]
    files = [*map(Path, MACHINE_FILES), _EXTRA_MCP]
    files += [one for one in named if not any(one.is_relative_to(place) for place in (*files, *places))]
    for file in dict.fromkeys(files):
        if file.is_absolute() and file.exists():
            yield Bind(source=file.resolve(), target=f"{VIEW}{file}", mapped=False)


def links() -> list[str]:
    """Those of the machine's root, as the container's first program is told of them. Blocks."""
    return [f"{top}={Path('/', top).readlink()}" for top in _TOPS if Path("/", top).is_symlink()]


def _python() -> list[Path]:
    """Where this Python, its packages and the hive itself lie, but below /usr; none within another."""
    own = Path(sys.executable)
    named: set[str | Path] = {
        sys.prefix,
        sys.base_prefix,
        own.parent.parent,
        own.resolve().parent.parent,
        _source(),
    }
    places = {Path(one).resolve() for one in named}
    nix = Path("/nix/store")  # is shown anyway
    outer = {one for one in places if not any(one != other and one.is_relative_to(other) for other in places)}
    return sorted(one for one in outer if not any(one.is_relative_to(place) for place in ("/usr", nix)))


def _source() -> Path:
    """What makes `import hyperhive` work."""
    return Path(str(hyperhive.__file__)).resolve().parents[1]


def harness_command(agent: AgentName) -> list[str]:
    """What runs in the container. Nothing that the agent can write is where Python looks for modules."""
    socket = f"{BOX_HARNESS_RUN}/harness.sock"
    own = Path(sys.executable)
    python = own.parent.resolve() / own.name  # a link to a directory would not be there
    return [str(python), "-P", "-m", "hyperhive.cli", "agent", "serve", agent, "--socket", socket]


def harness_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """No key and no token, whatever the hive was started with."""
    passed = (*PASSED_THROUGH, "LD_LIBRARY_PATH", "HIVE_OPERATOR_PRONOUNS")
    return {
        **{name: environ[name] for name in passed if name in environ},
        **{name: environ[name] for name in PROXIES if "@" not in environ.get(name, "@")},
        INSIDE: "nspawn",
        INSIDE_ROOT: str(VIEW_ROOT_FD),
        "HYPERHIVE_CONFIG": f"{BOX_HARNESS_RUN}/hive.toml",
        "HYPERHIVE_STATE_DIR": str(HARNESS_STATE),
        "HYPERHIVE_RUN_DIR": BOX_HARNESS_RUN,
        "HYPERHIVE_CLAUDE": CLI,
        "HOME": str(HARNESS_STATE),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONPATH": str(_source()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def digest(*parts: object) -> str:
    """Of whatever a container is started as."""
    return hashlib.blake2b(msgspec.json.encode(parts, enc_hook=os.fspath), digest_size=12).hexdigest()
