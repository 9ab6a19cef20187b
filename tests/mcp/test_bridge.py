"""Claims about the bridge's memory, and about the bridge as a program."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from hyperhive.mcp import bridge
from hyperhive.mcp.bridge import LAST_ANSWERS_SECONDS, Relay
from mcp_lines import INITIALIZE
from small_hive import small_hive

PROGRAM = Path(bridge.__file__)


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def introduced() -> Relay:
    """A relay whose client has been greeted."""
    relay = Relay("me")
    relay.dialled()
    relay.from_client(line(id=0, method="initialize", params={"x": 1}))
    relay.from_core(line(id=0, result={}))
    relay.from_client(line(method="notifications/initialized"))
    return relay


def call_id(sent: bytes) -> str:
    return str(json.loads(sent)["params"]["_meta"]["hyperhive/call"])


def test_every_tool_call_gets_an_id_of_its_own() -> None:
    relay = introduced()
    sent = [relay.from_client(line(id=n, method="tools/call", params={"name": "send"}))[0][0] for n in (1, 2)]
    assert len({call_id(one) for one in sent}) == 2
    assert all(json.loads(one)["params"]["name"] == "send" for one in sent)


def test_an_id_that_the_client_gave_is_kept() -> None:
    params = {"name": "send", "_meta": {"hyperhive/call": "mine", "progressToken": 3}}
    [sent], _ = introduced().from_client(line(id=1, method="tools/call", params=params))
    assert json.loads(sent)["params"]["_meta"] == {"hyperhive/call": "mine", "progressToken": 3}


def test_what_was_under_way_is_asked_again_under_the_same_id_after_a_greeting_of_its_own() -> None:
    relay = introduced()
    [first], _ = relay.from_client(line(id=1, method="tools/call", params={"name": "send"}))
    relay.from_client(line(id=2, method="tools/list"))
    relay.from_core(line(id=2, result={}))
    relay.lost()
    assert relay.from_client(line(id=3, method="ping")) == ([], []), "there is no core now"
    [greeting] = relay.dialled()
    assert json.loads(greeting)["method"] == "initialize"
    assert json.loads(greeting)["params"] == {"x": 1}
    assert relay.from_client(line(id=4, method="ping")) == ([], []), "nothing before the greeting is answered"
    to_core, to_client = relay.from_core(line(id=json.loads(greeting)["id"], result={"capabilities": {}}))
    assert to_client == [], "the client has had its answer"
    assert [json.loads(one)["method"] for one in to_core] == [
        "notifications/initialized",
        "tools/call",
        "ping",
        "ping",
    ]
    assert to_core[1] == first


def test_an_initialize_that_was_not_answered_is_asked_again_as_it_was() -> None:
    relay = Relay("me")
    hello = line(id=0, method="initialize", params={})
    assert relay.from_client(hello) == ([], [])
    assert relay.dialled() == [hello]
    relay.lost()
    assert relay.dialled() == [hello]
    assert relay.from_core(line(id=0, result={}))[1] == [line(id=0, result={})]


def test_a_client_that_knows_no_handshake_is_served_without_one() -> None:
    relay = Relay("me")
    relay.dialled()
    relay.from_client(line(id=1, method="server/discover"))
    relay.lost()
    assert [json.loads(one)["method"] for one in relay.dialled()] == ["server/discover"]


def test_a_cancelled_call_is_not_asked_again_and_its_late_answer_goes_nowhere() -> None:
    relay = introduced()
    relay.from_client(line(id=1, method="tools/call", params={"name": "recv"}))
    cancel = line(method="notifications/cancelled", params={"requestId": 1})
    assert relay.from_client(cancel) == ([cancel], [])
    assert relay.idle
    assert relay.from_core(line(id=1, result={})) == ([], [])


def test_no_answer_is_handed_on_twice() -> None:
    relay = introduced()
    relay.from_client(line(id=1, method="ping"))
    assert relay.from_core(line(id=1, result={}))[1]
    assert relay.from_core(line(id=1, result={})) == ([], [])


def test_a_number_and_its_text_are_two_ids() -> None:
    relay = introduced()
    relay.from_client(line(id=1, method="ping"))
    relay.from_client(line(id="1", method="ping"))
    relay.from_core(line(id="1", result={}))
    assert not relay.idle


def test_a_request_that_the_core_would_refuse_for_its_length_is_answered_here() -> None:
    to_core, [answer] = introduced().from_client(line(id=1, method="ping", params={"x": "y" * 1_100_000}))
    assert to_core == []
    assert json.loads(answer)["error"]["code"] == -32600


@pytest.mark.parametrize("rubbish", [b"", b"x", b"[]", b"7", b"null", b"\xff", b"[" * 100_000])
def test_rubbish_breaks_nothing(rubbish: bytes) -> None:
    relay = introduced()
    relay.from_client(rubbish)
    relay.from_core(rubbish)
    assert relay.idle


def test_the_bridge_is_one_file_of_the_standard_library() -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(PROGRAM.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert names <= set(sys.stdlib_module_names)


def test_the_bridge_compiles_for_old_pythons() -> None:
    ast.parse(PROGRAM.read_text(), feature_version=(3, 9))


def test_the_bridge_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-IS", PROGRAM], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "usage: bridge.py SOCKET\n"


async def test_the_bridge_ends_when_its_client_does_though_there_is_no_core(root: Path) -> None:
    argv = [sys.executable, "-IS", str(PROGRAM), str(root / "nowhere.sock")]
    with anyio.fail_after(20):
        done = await anyio.run_process(argv, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


async def test_a_client_that_dies_while_recv_waits_takes_no_message(root: Path) -> None:
    call = {"name": "recv", "arguments": {"wait_seconds": 100}}
    async with small_hive(root) as hive:
        await hive.tools.preload()
        argv = [sys.executable, "-IS", str(PROGRAM), str(hive.tools_socket("alice"))]
        hers, its = os.pipe()
        async with await anyio.open_process(argv, stdout=its, stderr=None) as client:
            os.close(its)
            assert client.stdin is not None
            await client.stdin.send(line(id=0, method="initialize", params=INITIALIZE) + b"\n")
            await client.stdin.send(line(id=1, method="tools/call", params=call) + b"\n")
            await hive.receiving.wait()
            os.close(hers)
            await client.stdin.aclose()
            with anyio.fail_after(LAST_ANSWERS_SECONDS / 2):
                await client.wait()
        with anyio.fail_after(20):
            while hive.tools._calls._tasks:
                await anyio.lowlevel.checkpoint()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1


async def test_the_bridge_is_left_beside_an_agents_socket_and_never_written_through_a_link(
    root: Path,
) -> None:
    async with small_hive(root) as hive:
        directory = hive.tools_socket("alice").parent
        precious = root / "precious"
        precious.write_text("mine")
        (directory / "bridge.py").symlink_to(precious)
        await hive.tools.preload()
        left = await hive.tools.leave_bridge(directory)
        assert left is not None
        assert precious.read_text() == "mine"
        assert sorted(path.name for path in directory.iterdir()) == ["bridge.py", "mcp.sock"]
        argv = [sys.executable, "-IS", str(left), str(hive.tools_socket("alice"))]
        with anyio.fail_after(20):
            done = await anyio.run_process(argv, input=line(id=0, method="ping") + b"\n")
        assert json.loads(done.stdout)["id"] == 0


async def test_a_bridge_that_cannot_be_written_is_no_reason_to_fail(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with small_hive(root) as hive:
        assert await hive.tools.leave_bridge(root / "nowhere") is None
    assert "bridge_not_written" in caplog.text
