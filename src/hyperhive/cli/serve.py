"""The commands that run a hive: `up` in a terminal, `serve` as a service, `agent serve` for one harness in a container.

What they take, and where their logs go. The work is `running`'s, which is imported when one of them runs.
"""

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperhive.cli.common import DEFAULTS, Common, Session

if TYPE_CHECKING:
    from hyperhive.config import HiveConfig


def up(
    *,
    runtime: str | None = None,
    claude: str | None = None,
    port: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Run a hive in this terminal until Ctrl-C: the manager, and every agent that you had not stopped.

    Args:
        runtime: what agents live in: auto, bwrap or process (else HYPERHIVE_RUNTIME, else hive.toml).
        claude: the agent CLI (else HYPERHIVE_CLAUDE, else what doctor --install-cli installed, else PATH).
        port: of the dashboard; 0: a free one (else HIVE_DASHBOARD_PORT, else hive.toml, else 7000, or a free one where
            that is taken).
        common: flags of every command.
    """
    from hyperhive.cli.running import run_up

    session = Session(common)
    config = _configuration(session, runtime, serve=False, port=port, pages=True)
    return _logged(
        session, config, lambda: run_up(session, config, _environ(session, claude)), stream_level="WARNING"
    )


def serve(
    *,
    runtime: str | None = None,
    claude: str | None = None,
    port: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Run the hive as a service: it logs to standard error (JSON under systemd) and into its state directory.

    Args:
        runtime: what agents live in: auto, bwrap or process (else HYPERHIVE_RUNTIME, else hive.toml).
        claude: the agent CLI (else HYPERHIVE_CLAUDE, else what doctor --install-cli installed, else PATH).
        port: of the dashboard; 0: a free one (else HIVE_DASHBOARD_PORT, else hive.toml, else 7000).
        common: flags of every command.
    """
    from hyperhive.cli.running import run_serve

    session = Session(common)
    config = _configuration(session, runtime, serve=True, port=port, pages=True)
    return _logged(session, config, lambda: run_serve(config, _environ(session, claude)), stream_level="INFO")


def _logged(
    session: Session,
    config: "HiveConfig",
    run: Callable[[], Coroutine[Any, Any, int]],
    *,
    stream_level: str,
    file_name: str = "hive.log",
) -> int:
    """Runs it with logs in the state directory and on standard error."""
    import anyio

    from hyperhive import logs
    from hyperhive.paths import Paths

    form = "json" if session.common.as_json else logs.stream_form(sys.stderr, session.environ)
    directory = Paths.of(config.state_dir, config.run_dir).log
    with logs.configured(
        directory=directory, stream=sys.stderr, form=form, stream_level=stream_level, file_name=file_name
    ):
        return anyio.run(run)


def _configuration(
    session: Session, runtime: str | None, *, serve: bool, port: int | None = None, pages: bool = False
) -> "HiveConfig":
    """hive.toml, environment and flags, the flags winning."""
    from hyperhive.config import load

    common = session.common
    return load(
        session.environ, serve=serve, state_dir=_absolute(common.state_dir), run_dir=_absolute(common.run_dir),
        runtime=runtime, port=port, pages=pages,
    )  # fmt: skip


def _environ(session: Session, claude: str | None) -> dict[str, str]:
    """The operator's environment; a flag wins over the variable of its name."""
    return {**session.environ, **({} if claude is None else {"HYPERHIVE_CLAUDE": claude})}


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def agent_serve(
    name: str,
    /,
    *,
    socket: Path | None = None,
    runtime: str | None = None,
    claude: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Run one agent's harness in this process: it dials the hive's harness socket, and again when the hive restarts.

    Args:
        name: the agent.
        socket: its harness socket (else RUN_DIR/harness/NAME/harness.sock).
        runtime: what its CLI lives in here: process inside a container, bwrap or process on a host.
        claude: the agent CLI.
        common: flags of every command.
    """
    from hyperhive.cli.harnessing import run_harness
    from hyperhive.names import parse_resident

    agent = parse_resident(name)
    session = Session(common)
    config = _configuration(session, runtime, serve=False)
    return _logged(
        session,
        config,
        lambda: run_harness(agent, config, _environ(session, claude), socket=socket),
        stream_level="INFO",
        file_name=f"harness-{agent}.log",
    )
