"""The command `demo`: a whole hive of scripted agents at work on one task, with no account, no network, no sandbox.

All of it lives in a temporary directory that goes away with the demo. The story itself is `story`'s, which is imported
when the command runs.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session

TASK: Final = "Find out what the parser does, and write a test for it."

_SOCKET_ROOM: Final = 60
"""A temporary directory with a longer path than this leaves no room for the names of sockets."""


def demo(
    task: str = TASK,
    /,
    *,
    once: Annotated[bool, Parameter(negative="")] = False,
    port: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Watch a manager and two agents work on a task. Scripted: no account, no network; nothing is left behind.

    Args:
        task: what the operator asks for.
        once: play it through and exit, rather than stay up for more.
        port: of its dashboard; 0: a free one (else 7000, or a free one where that is taken).
        common: flags of every command.
    """
    import anyio

    from hyperhive import logs
    from hyperhive.cli.story import configuration, play

    session = Session(common)
    place = Path(tempfile.mkdtemp(prefix="hyperhive-demo-", dir=None if _is_short() else "/tmp"))  # noqa: S108
    try:
        config = configuration(place, pages=not once, port=port)
        with logs.configured(
            directory=config.state_dir / "log", stream=sys.stderr,
            form=logs.stream_form(sys.stderr, session.environ), stream_level="ERROR",
        ):  # fmt: skip
            return anyio.run(play, session, config, task, once)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _is_short() -> bool:
    return len(tempfile.gettempdir()) <= _SOCKET_ROOM
