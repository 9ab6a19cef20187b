"""Network `out`: `pasta` (package passt) joins the network namespace of one box to the world outside.

The box keeps a loopback of its own; the host's loopback, its abstract sockets and its own addresses stay out of reach,
and no port of the box is open on the host. pasta runs as a companion of the box's program, under its mark: it ends with
it, and it never runs in the box.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.errors import MissingPart
from hyperhive.lifecycle.runtimes.launch import START_SECONDS, BoxedProcess, Plan, launch, memory_file
from hyperhive.lifecycle.runtimes.limiter import Fence

HOW_TO_GET: Final = (
    'install the package passt, or set network = "host" for this agent (its box then shares your network)'
)

_NS_GET_USERNS: Final = 0xB701
_RESOLVER: Final = "169.254.1.53"
"""Stands in the box for a resolver that listens on the host's loopback."""
_CLOSED: Final = ("-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw")
"""No port is forwarded, in neither direction, and the gateway's address does not lead to the host."""


@dataclass(frozen=True, slots=True)
class Pasta:
    """This machine's pasta."""

    program: str

    @classmethod
    def find(cls, path: str) -> "Pasta | None":
        """Looks for it. Blocks."""
        program = shutil.which("pasta", path=path)
        return None if program is None else cls(str(Path(program).absolute()))

    async def join(self, pid: int, *, mark: int, fence: Fence) -> BoxedProcess:
        """Joins the network namespace of process `pid`; returns when it has a way out.

        Raises:
            MissingPart: pasta does not work here, with what it said.
        """
        command = await anyio.to_thread.run_sync(self.command)
        fds = await anyio.to_thread.run_sync(_descriptors, pid)
        log = os.dup(fds[2])
        try:
            companion = await launch(
                Plan(
                    argv=command,
                    env={},
                    cwd="/",
                    mark=mark,
                    prefix=fence.prefix,
                    cgroups=fence.cgroups,
                    fds=fds,
                    stdio=fds,
                    program="pasta",
                )
            )
            if not await anyio.to_thread.run_sync(_wait_for_way_out, pid, companion.pid):
                said = await anyio.to_thread.run_sync(_said, log)
                with anyio.CancelScope(shield=True):
                    await companion.aclose()
                raise MissingPart(f"pasta cannot join a box to the network: {said}", hint=HOW_TO_GET)
        finally:
            os.close(log)
        return companion

    def command(self) -> list[str]:
        """It joins what its descriptors 0 (the users who own the network) and 1 (the network) stand for. Blocks."""
        # Under root it would become nobody, who may not enter the box's namespaces.
        as_root = ("--runas", "0") if os.geteuid() == 0 else ()
        resolver = ("--dns-forward", _RESOLVER) if hidden_resolver() is not None else ()
        where = ("--userns", "/proc/self/fd/0", "--netns", "/proc/self/fd/1")
        return [
            self.program,
            "--foreground",
            "--quiet",
            "--config-net",
            *_CLOSED,
            *as_root,
            *resolver,
            *where,
        ]


def hidden_resolver(file: Path = Path("/etc/resolv.conf")) -> bytes | None:
    """What /etc/resolv.conf must say in a box, where all of the machine's resolvers are on its loopback; else None."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    servers = [words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and len(words) > 1]
    if not servers or not all(_is_loopback(server) for server in servers):
        return None
    others = [line for line in lines if line.split()[:1] in (["search"], ["domain"], ["options"])]
    return "\n".join([f"nameserver {_RESOLVER}", *others, ""]).encode()


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _descriptors(pid: int) -> list[int]:
    """The user namespace that owns the box's network, that network, and a file for what pasta says.

    The first is not always the one that the box's process is in.
    """
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [fcntl.ioctl(network, _NS_GET_USERNS), network, memory_file("pasta", b"")]
    except BaseException:
        os.close(network)
        raise


def _said(log: int) -> str:
    text = os.pread(log, 4096, 0).decode(errors="replace").strip()
    return " · ".join(text.splitlines()[-2:]) or "it said nothing"


def _wait_for_way_out(pid: int, pasta: int) -> bool:
    """Looks at the box's routes until there is one that leads out; False when pasta has ended. Blocks.

    Nothing tells of a change in another namespace: a few looks, two milliseconds apart.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if _leads_out(_lines(f"/proc/{pid}/net/route"), 0, 1) or _leads_out(
            _lines(f"/proc/{pid}/net/ipv6_route"), -1, 0
        ):
            return True
        if not Path(f"/proc/{pasta}").exists():
            return False
        time.sleep(0.002)
    return False


def _leads_out(lines: Sequence[str], device: int, target: int) -> bool:
    """Whether a table of routes has a default route over something else than the loopback."""
    rows = [line.split() for line in lines]
    return any(row[device] != "lo" and set(row[target]) == {"0"} for row in rows if len(row) > 5)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
