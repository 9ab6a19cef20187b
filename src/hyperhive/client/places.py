"""Where a client looks for a hive's admin socket. Looks at no file."""

from collections.abc import Mapping
from pathlib import Path

from hyperhive.config import state_directory

SYSTEM_RUN_DIR = Path("/run/hyperhive")


def run_dirs(named: Path | None, environ: Mapping[str, str]) -> list[Path]:
    """The run directories to try, in order.

    What was named, by argument or else by `HYPERHIVE_RUN_DIR`, is the only place: nobody must reach another hive than
    the one they were told. Without a name: the user's own, then the system's.
    """
    if named is not None:
        return [named]
    if variable := environ.get("HYPERHIVE_RUN_DIR"):
        return [Path(variable)]
    users = [Path(runtime) / "hyperhive"] if (runtime := environ.get("XDG_RUNTIME_DIR")) else []
    return [*users, state_directory(environ) / "run", SYSTEM_RUN_DIR]
