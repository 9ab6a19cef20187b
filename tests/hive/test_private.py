"""What a hive keeps is its operator's alone, whatever the umask."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from hive_mail import mail_from
from hyperhive.client import connect
from hyperhive.config import HiveConfig
from hyperhive.host import Hive
from hyperhive.logs import configured


def open_to_others(root: Path) -> list[str]:
    """Everything in and above (up to the state's parent) that somebody else could read or enter."""
    found = []
    for path in [root, *sorted(root.rglob("*"))]:
        with suppress(FileNotFoundError):  # a journal may have gone since it was listed
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o077:
                found.append(f"{stat.filemode(mode)} {path.relative_to(root)}")
    return found


@pytest.mark.may_block("the test itself looks at every file")
@pytest.mark.parametrize("again", [False, True])
async def test_nobody_else_can_read_what_a_hive_keeps(
    config: HiveConfig, environ: dict[str, str], again: bool
) -> None:
    before = os.umask(0o022)
    try:
        if again:
            config.state_dir.mkdir(parents=True, mode=0o755)
        with configured(directory=config.state_dir / "log"):
            async with (
                Hive.open(config=config, environ=environ) as hive,
                connect(run_dir=hive.paths.run_dir) as operator,
            ):
                await hive.lifecycle.spawn("alice")
                with anyio.fail_after(20):
                    await operator.broker.send(
                        "operator", "alice", '[[call send {"to": "operator", "body": "done"}]]'
                    )
                    await mail_from(operator, "alice")
                found = open_to_others(config.state_dir)
                if again:  # what the operator made keeps its mode; all that is in it is closed
                    found = [line for line in found if not line.endswith(" .")]
                # What the agent's own programs make, and git, is below a directory that nobody else can enter.
                own = (
                    "agents/alice/state",
                    "agents/alice/claude",
                    "agents/manager/state",
                    "agents/manager/claude",
                    "staging",
                    *(f"{kind}/{name}" for kind in ("applied", "proposed") for name in ("alice", "manager")),
                )
                assert [line for line in found if not any(f" {part}/" in f"{line}/" for part in own)] == []
                assert (config.state_dir / "hive.sqlite-wal").exists()
    finally:
        os.umask(before)
