"""What the gateway's word makes of a turn that failed, and whether a CLI speaks over a unix socket."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.errors import NotAvailable
from hyperhive.harness.model_gate import ModelGate, ModelRoutes, judge
from hyperhive.harness.socket_probe import SocketProbe, asks_by_socket
from hyperhive.harness.turns import TurnResult
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.replies import ModelStanding, Reply
from hyperhive.protocol.requests import ModelAccess, Request
from hyperhive.protocol.types import ModelRefusal, ResultKind

FORWARD = Path(__file__).parents[2] / "src" / "hyperhive" / "harness" / "forward.py"


def failed(kind: ResultKind = "failed") -> TurnResult:
    """What a CLI makes of a 403 that ends its turn, or says of itself."""
    return TurnResult(
        kind=kind, note="Failed to authenticate", park="refused", blame=True, reset_at=99, pending=(1,)
    )


@pytest.mark.parametrize(
    ("last", "said", "kind"),
    [
        ("budget", "failed", "limited"),
        ("budget", "needs_login", "limited"),
        ("limited", "failed", "limited"),
        ("login", "failed", "needs_login"),
        ("login", "limited", "needs_login"),
    ],
)
def test_a_refusal_of_the_gateways_is_the_reason_whatever_the_cli_makes_of_it(
    last: ModelRefusal, said: ResultKind, kind: ResultKind
) -> None:
    result = judge(failed(said), ModelStanding(served=True, last=last))
    assert (result.kind, result.blame, result.park, result.reset_at) == (kind, False, None, None)
    assert result.pending == (1,)


@pytest.mark.parametrize("last", ["budget", "limited", "login"])
def test_what_was_refused_before_the_turn_is_not_its_reason(last: ModelRefusal) -> None:
    """Else an agent whose CLI just exits could park an account that has a new key."""
    result = msgspec.structs.replace(failed(), started_at=1000.5)
    standing = ModelStanding(served=True, last=last, last_at=999)
    assert judge(result, standing) == msgspec.structs.replace(result, reset_at=None)
    during = ModelStanding(served=True, last=last, last_at=1000)
    assert judge(result, during).kind != "failed"


def test_a_cli_that_says_it_must_log_in_is_not_believed_where_nothing_was_refused() -> None:
    result = judge(failed("needs_login"), ModelStanding(served=True))
    assert result.kind == "failed"


def test_a_limit_that_only_the_cli_speaks_of_is_no_limit_of_the_accounts() -> None:
    result = judge(failed("limited"), ModelStanding(served=True))
    assert (result.kind, result.reset_at) == ("limited", None)


def test_a_limit_that_the_gateway_knows_of_ends_when_it_says() -> None:
    standing = ModelStanding(served=True, refused="limited", last="limited", until=1234)
    assert judge(failed("limited"), standing).reset_at == 1234


class Core:
    """Answers one question."""

    def __init__(self, standing: ModelStanding | None) -> None:
        self.standing = standing
        self.asked: list[Request] = []

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.standing is None:
            raise NotAvailable("an older core")
        return self.standing


async def test_only_endings_that_may_be_a_refusal_are_asked_about() -> None:
    core = Core(ModelStanding(served=True, last="login"))
    for kind in ("ok", "stuck", "crashed", "cancelled", "prompt_too_long"):
        assert (await ModelGate(core).judged(failed(kind))).kind == kind
    assert core.asked == []
    assert (await ModelGate(core).judged(failed())).kind == "needs_login"
    assert core.asked == [ModelAccess()]


@pytest.mark.parametrize("standing", [None, ModelStanding(last="login")])
async def test_where_no_gateway_serves_the_cli_is_all_there_is(standing: ModelStanding | None) -> None:
    assert await ModelGate(Core(standing)).judged(failed("needs_login")) == failed("needs_login")


# --- the probe --------------------------------------------------------------------------------------------------------


@pytest.mark.needs("claude", "claude-2.1.200")
async def test_both_tested_versions_ask_by_the_socket(claude_cli: Path, claude_cli_200: Path) -> None:
    assert await asks_by_socket(claude_cli)
    assert await asks_by_socket(claude_cli_200)


async def test_a_program_that_asks_nothing_there_is_found_out_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\necho called >> {calls}\n")
    program.chmod(0o755)
    probe = SocketProbe()
    cli = AgentCli(path=program, version="9.9.9")
    assert [await probe.speaks(cli), await probe.speaks(cli)] == [False, False]
    assert calls.read_text().split() == ["called"]
    assert not await asks_by_socket(tmp_path / "none")


async def test_a_tested_version_is_not_run_to_be_found_out(tmp_path: Path) -> None:
    assert await SocketProbe().speaks(AgentCli(path=tmp_path / "none", version="2.1.328"))


async def test_the_way_to_the_gateway_holds_no_key(tmp_path: Path) -> None:
    box = Paths.of(tmp_path).box(AgentName("alice"), isolated=True)
    environ = {"ANTHROPIC_API_KEY": "canary", "NO_PROXY": "example.org"}
    route = await ModelRoutes(SocketProbe(), environ).to_gateway(
        AgentCli(path=tmp_path, version="2.1.328"), box
    )
    assert route.env["ANTHROPIC_UNIX_SOCKET"] == "/run/hive/model.sock"
    assert route.env["NO_PROXY"] == "hive,127.0.0.1,example.org"
    assert "canary" not in str(route)


# --- the forwarder ----------------------------------------------------------------------------------------------------

ASK = """
import os, socket, sys
host, port = os.environ["ANTHROPIC_BASE_URL"].removeprefix("http://").split(":")
for number in range(3):
    with socket.create_connection((host, int(port))) as it:
        it.sendall(b"ping%d" % number)
        print(it.recv(100).decode())
print(sys.argv[1:], os.getpid() == int(sys.stdin.readline()))
"""


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Path]:
    """A unix socket that gives back what it gets."""
    path = tmp_path / "s"
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:

        async def answer(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send(b"echo " + await stream.receive())

        group.start_soon(listener.serve, answer)
        yield path
        group.cancel_scope.cancel()


async def test_a_forwarder_becomes_the_program_and_leads_a_port_to_the_socket(echo: Path) -> None:
    argv = [sys.executable, "-ISB", str(FORWARD), str(echo), sys.executable, "-c", ASK, "a", "b c"]
    process = await anyio.open_process(argv, env={"PATH": os.defpath}, stderr=None)
    async with process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(f"{process.pid}\n".encode())
        out = b""
        with anyio.fail_after(20):
            async for chunk in process.stdout:  # ends only when nobody holds the pipe any more
                out += chunk
            assert await process.wait() == 0
    assert out.decode().splitlines() == ["echo ping0", "echo ping1", "echo ping2", "['a', 'b c'] True"]
