"""What runs in a box neither sees the dashboard nor, where its network is the host's, gets anything from it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.config import Network
from hyperhive.testing.runtime_kit import RuntimeKit, finish
from parts import NSPAWN_BASE
from web_client import Browser, Served

# Everything that a program in a box can try without the operator's help, at every address that may be the host's. It
# prints what it reached and the first line of each answer; a box's Python may have few modules.
ATTACK = """
import os, socket, sys
port, approval, admin = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if os.path.exists(admin):
    print("admin")
name = f"localhost:{port}"
page = f"Host: {name}\\r\\nOrigin: http://{name}\\r\\nSec-Fetch-Site: same-origin\\r\\n"
page += "Content-Type: application/json\\r\\n"
forged = page + "Cookie: hive_session=x; hive_session_0=x\\r\\nX-Hive-Secret: x\\r\\n"
tries = (
    ("GET /api/state", ""),
    (f"POST /approve/{approval}", "{}"),
    ("POST /api/request", '{"cmd":"approve","id":%s}' % approval),
    ("POST /api/request", '{"cmd":"login_link"}'),
    ("POST /session", '{"token":"guess"}'),
    ("GET /stream", ""),
)
def ask(host, line, headers, body):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as link:
        link.settimeout(2)
        link.connect((host, port))
        head = f"{line} HTTP/1.1\\r\\n{headers}Content-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
        link.sendall((head + body).encode())
        said = b""
        while chunk := link.recv(65536):
            said += chunk
        return said.decode()
for host in ("127.0.0.1", "::1", "10.0.2.2", "169.254.1.1"):
    try:
        for line, body in tries:
            for headers in (page, forged):
                said = ask(host, line, headers, body)
                print(host, said.split()[1], "carl" in said)
    except OSError:
        continue
"""


@pytest.fixture
async def kit(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RuntimeKit]:
    monkeypatch.setenv("HYPERHIVE_NSPAWN_BASE", str(NSPAWN_BASE))
    async with RuntimeKit.open(request.param, tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("kit", "network"),
    [
        pytest.param("bwrap", "none", marks=pytest.mark.needs("bwrap")),
        pytest.param("bwrap", "out", marks=pytest.mark.needs("bwrap", "pasta")),
        pytest.param("bwrap", "host", marks=pytest.mark.needs("bwrap")),
        pytest.param("nspawn", "none", marks=pytest.mark.needs("bwrap", "nspawn")),
        pytest.param("nspawn", "host", marks=pytest.mark.needs("bwrap", "nspawn")),
    ],
    indirect=["kit"],
)
async def test_an_agent_cannot_approve_itself_over_the_network(
    kit: RuntimeKit, network: Network, served: Served, browser: Browser
) -> None:
    approval = (await browser.ask("POST", "/request-spawn", {"name": "carl"})).json["id"]
    admin = str(served.hive.paths.host_socket)
    child = await kit.start(
        "/usr/bin/python3", "-c", ATTACK, str(served.port), str(approval), admin, network=network
    )
    ended = await finish(child)
    assert ended.code == 0, ended.err
    answers = {tuple(line.split()) for line in ended.out.splitlines()}
    if network == "host":
        assert {each[0] for each in answers} == {"127.0.0.1", "::1"}, "what was looked for is there"
        assert {each[1:] for each in answers} <= {("401", "False"), ("429", "False")}
    else:
        assert answers == set()
    assert [each.agent for each in await served.hive.approvals.pending()] == ["carl"]
    assert len((await browser.request(cmd="web_sessions")).json["sessions"]) == 1
