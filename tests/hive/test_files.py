"""Files that agents tell of, in a whole hive: boxed agents' paths, the operator's mounts, and who may look."""

from pathlib import Path

import anyio.to_thread
import pytest

from hyperhive.client import connect
from hyperhive.config import load
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import InboxRows, StateFile

ALICE = AgentName("alice")
MOUNT = """
[agents.alice]
mounts = [{source = "APP", target = "/workspace/app", mode = "ro"}]
"""


@pytest.mark.needs("bwrap")
async def test_the_operator_reads_what_a_boxed_agent_tells_of(
    home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("print()\n")
    (home / "hive.toml").write_text(MOUNT.replace("APP", str(app)))
    environ["HYPERHIVE_RUNTIME"] = "bwrap"
    config = await anyio.to_thread.run_sync(
        lambda: load(environ, state_dir=home / "state", run_dir=home / "run")
    )
    async with Hive.open(config=config, environ=environ) as hive:
        await hive.lifecycle.spawn("alice")
        (hive.paths.agent_state(ALICE) / "plan.md").write_text("the plan")
        body = f"see /state/plan.md, /workspace/app/main.py:3 and {app}/main.py"
        receipt = await hive.broker.send("alice", "operator", body)
        async with connect(run_dir=hive.paths.run_dir) as operator:
            inbox = await operator.request(r.Inbox())
            assert isinstance(inbox, InboxRows)
            [row] = inbox.messages
            assert [ref.path for ref in row.file_refs] == ["/state/plan.md", "/workspace/app/main.py"]
            texts = []
            for number in (1, 2):
                reply = await operator.request(r.StateFileRead(message=receipt.id, n=number))
                assert isinstance(reply, StateFile)
                texts.append(reply.text)
            assert texts == ["the plan", "print()\n"]
            await hive.lifecycle.destroy(
                "alice"
            )  # its state is kept, and can still be read; nothing is mounted
            reply = await operator.request(r.StateFileRead(agent="alice", path="plan.md"))
            assert isinstance(reply, StateFile)


async def test_without_a_box_the_paths_are_the_hosts(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    file = hive.paths.agent_state(ALICE) / "plan.md"
    file.write_text("the plan")
    receipt = await hive.broker.send("alice", "operator", f"see {file} and {hive.paths.database}")
    assert [ref.path for ref in (await hive.broker.files_of(receipt.id)).refs] == [str(file)]
