"""Runtimes: what an agent lives in. `pick_runtime` chooses one; `base.Runtime` is the contract of all.

`base.Containers` is the further contract of those whose boxes hold the harness, too.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from hyperhive.config import RuntimeName
from hyperhive.lifecycle.runtimes.base import Runtime
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.inside import INSIDE, InsideRuntime
from hyperhive.lifecycle.runtimes.nixos_container import NixosContainerRuntime
from hyperhive.lifecycle.runtimes.nspawn import NspawnRuntime
from hyperhive.lifecycle.runtimes.nspawn_base import base_place
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.paths import Paths

__all__ = [
    "BwrapRuntime",
    "NixosContainerRuntime",
    "NspawnRuntime",
    "ProcessRuntime",
    "ResourceLimits",
    "Runtime",
    "pick_runtime",
]


async def pick_runtime(
    name: RuntimeName,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    owner: str = "",
    nspawn_base: str | None = None,
    serving: bool = False,
) -> Runtime:
    """The runtime of this name, checked and ready.

    `auto` is `bwrap`; for a daemon (`serving`) that is root it is `nixos-container` on NixOS, and `nspawn` where a base
    for containers was made. It never is `process`. In a container of the hive's it is that, whatever was asked for.

    Args:
        owner: whose processes it ends: those of runtimes of this owner and state directory alone. The core has none.
        nspawn_base: the setting of that name.

    Raises:
        MissingPart: it does not work on this machine; the hint names the package.
    """
    runtime: Runtime
    if name == "auto":
        name = "bwrap"
        if serving and os.geteuid() == 0:
            name = await anyio.to_thread.run_sync(_contained, paths, environ, nspawn_base)
    if environ.get(INSIDE):
        runtime = InsideRuntime(paths, environ, owner=owner, container=environ[INSIDE])
    elif name == "bwrap":
        runtime = BwrapRuntime(paths, environ, owner=owner)
    elif name == "nspawn":
        runtime = NspawnRuntime(paths, environ, owner=owner, base=nspawn_base)
    elif name == "nixos-container":
        runtime = NixosContainerRuntime(paths, environ, owner=owner)
    else:
        runtime = ProcessRuntime(paths, environ, owner=owner)
    await runtime.check()
    return runtime


def _contained(paths: Paths, environ: Mapping[str, str], nspawn_base: str | None) -> RuntimeName:
    """What there are containers with, for root. A base that somebody made asks for nspawn. Blocks."""
    if Path("/etc/NIXOS").exists() and shutil.which("nixos-container", path=environ.get("PATH")):
        return "nixos-container"
    return "nspawn" if base_place(paths.state_dir, nspawn_base, environ).is_dir() else "bwrap"
