"""Runtimes: what an agent lives in. `pick_runtime` chooses one; `base.Runtime` is the contract of all.

`nspawn` and `nixos-container` are names that the configuration knows and that are not served yet.
"""

from collections.abc import Mapping

from hyperhive.config import RuntimeName
from hyperhive.errors import NotAvailable
from hyperhive.lifecycle.runtimes.base import Runtime
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.paths import Paths

__all__ = ["BwrapRuntime", "ProcessRuntime", "ResourceLimits", "Runtime", "pick_runtime"]


async def pick_runtime(
    name: RuntimeName, paths: Paths, environ: Mapping[str, str], *, owner: str = ""
) -> Runtime:
    """The runtime of this name, checked and ready. `auto` is `bwrap`, and never `process`.

    Args:
        owner: whose processes it ends: those of runtimes of this owner and state directory alone. The core has none.

    Raises:
        MissingPart: it does not work on this machine; the hint names the package.
        NotAvailable: this version does not serve it.
    """
    runtime: Runtime
    if name in {"auto", "bwrap"}:
        runtime = BwrapRuntime(paths, environ, owner=owner)
    elif name == "process":
        runtime = ProcessRuntime(paths, environ, owner=owner)
    else:
        raise NotAvailable(
            f"the runtime {name} is not available in this version", hint="use bwrap, or process"
        )
    await runtime.check()
    return runtime
