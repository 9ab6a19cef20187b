"""Runtimes: what an agent lives in. `pick_runtime` chooses one; `base.Runtime` is the contract of all.

`nixos-container` is a name that the configuration knows and that is not served yet.
"""

import os
from collections.abc import Mapping

import anyio.to_thread

from hyperhive.config import RuntimeName
from hyperhive.errors import NotAvailable
from hyperhive.lifecycle.runtimes.base import Runtime
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.nspawn import NspawnRuntime
from hyperhive.lifecycle.runtimes.nspawn_base import base_place
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.paths import Paths

__all__ = ["BwrapRuntime", "NspawnRuntime", "ProcessRuntime", "ResourceLimits", "Runtime", "pick_runtime"]


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

    `auto` is `bwrap`; for a daemon (`serving`) that is root and has a base for containers it is `nspawn`. It never is
    `process`.

    Args:
        owner: whose processes it ends: those of runtimes of this owner and state directory alone. The core has none.
        nspawn_base: the setting of that name.

    Raises:
        MissingPart: it does not work on this machine; the hint names the package.
        NotAvailable: this version does not serve it.
    """
    runtime: Runtime
    if name == "auto":
        contained = serving and await anyio.to_thread.run_sync(_has_base, paths, environ, nspawn_base)
        name = "nspawn" if contained else "bwrap"
    if name == "bwrap":
        runtime = BwrapRuntime(paths, environ, owner=owner)
    elif name == "nspawn":
        runtime = NspawnRuntime(paths, environ, owner=owner, base=nspawn_base)
    elif name == "process":
        runtime = ProcessRuntime(paths, environ, owner=owner)
    else:
        raise NotAvailable(
            f"the runtime {name} is not available in this version", hint="use bwrap, or process"
        )
    await runtime.check()
    return runtime


def _has_base(paths: Paths, environ: Mapping[str, str], setting: str | None) -> bool:
    """Whether somebody made a base here, for a user who can use it: that asks for containers. Blocks."""
    return os.geteuid() == 0 and base_place(paths.state_dir, setting, environ).is_dir()
