"""What passes the gateway, and what does not: paths, headers, errors, streams."""

import socket
from pathlib import Path

import anyio
import httpx2
import pytest
from anyio.abc import SocketAttribute, SocketStream

from gateway_world import ALICE, BOB, KEY, World, ask, events, prompt
from hyperhive.errors import BadConfig
from hyperhive.gateway import Upstream
from hyperhive.gateway.rules import to_client, to_upstream
from hyperhive.gateway.upstream import proxy_for
from hyperhive.testing.fake_anthropic import FakeAnthropic, error

Heads = list[dict[str, str]]


@pytest.fixture
def heads(api: FakeAnthropic) -> Heads:
    """The headers that reach the API, also those that its log leaves out."""
    seen: Heads = []
    handler = api._server.RequestHandlerClass

    class Seeing(handler):  # type: ignore[misc,valid-type]
        def do_POST(self) -> None:  # noqa: N802 (the base class's name)
            seen.append({name.lower(): text for name, text in self.headers.items()})
            super().do_POST()

    api._server.RequestHandlerClass = Seeing
    return seen


async def test_a_request_goes_on_with_the_accounts_key_and_nothing_that_came_from_the_box_instead(
    heads: Heads, world: World
) -> None:
    async with world.client() as client:
        reply = await client.post(
            "/v1/messages?beta=true",
            json=prompt(),
            headers={
                "x-api-key": "forged", "Authorization": "Bearer forged", "Cookie": "a=forged",
                "X-Auth-Token": "forged", "X-Forwarded-For": "forged", "Proxy-Authorization": "forged",
                "Connection": "x-hop", "X-Hop": "forged", "anthropic-beta": "tools-1,oauth-2025-04-20",
                "anthropic-version": "2023-06-01", "user-agent": "claude-cli/2.1.328",
            },
        )  # fmt: skip
    assert reply.status_code == 200
    assert "forged" not in str(heads)
    (head,) = heads
    assert head["x-api-key"] == KEY
    assert head["host"] == world.api.url.removeprefix("http://")
    assert head["accept-encoding"] == "identity"
    assert head["anthropic-beta"] == "tools-1"
    assert (head["anthropic-version"], head["user-agent"]) == ("2023-06-01", "claude-cli/2.1.328")
    assert KEY not in str(reply.headers) + reply.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/messages", 200),
        ("POST", "/v1/messages?beta=true", 200),
        ("POST", "/v1/messages/count_tokens", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/api/hello", 200),
        ("GET", "/v1/messages", 404),
        ("GET", "/v1/models", 404),
        ("POST", "/v1/messages/batches", 404),
        ("POST", "/v1/files", 404),
        ("POST", "/v1/messages/", 404),
        ("POST", "//v1/messages", 404),
        ("POST", "/v1/../v1/messages", 404),
        ("POST", "/v1/%6dessages", 404),
        ("POST", "/v1/organizations/api_keys", 404),
        ("DELETE", "/v1/messages", 404),
    ],
)
async def test_only_what_a_cli_needs_is_served(method: str, path: str, status: int, world: World) -> None:
    async with await world.raw() as stream:
        body = b'{"messages": []}' if method == "POST" else b""
        head = f"{method} {path} HTTP/1.1\r\nhost: hive\r\ncontent-length: {len(body)}\r\n\r\n"
        await stream.send(head.encode() + body)
        with anyio.fail_after(20):
            reply = await stream.receive()
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    forwarded = [one["path"] for one in world.api.log]
    assert forwarded == ([path] if method == "POST" and status == 200 else [])


async def test_a_stream_comes_as_it_is_piece_by_piece(world: World) -> None:
    world.api.scenario = {"default": {"blocks": ["x" * 400], "chunk_delay": 0.05}}
    body = b""
    first = last = 0.0
    async with world.client() as client, client.stream("POST", "/v1/messages", json=prompt()) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        async for piece in reply.aiter_raw():
            first = first or anyio.current_time()
            last = anyio.current_time()
            body += piece
    assert last - first > 0.2, "it was not kept back until its end"
    kinds = [event["type"] for event in events(body)]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    async with httpx2.AsyncClient() as direct:
        straight = await ask(direct_to(direct, world.api), prompt())
    assert [event["type"] for event in events(straight.content)] == kinds


def direct_to(client: httpx2.AsyncClient, api: FakeAnthropic) -> httpx2.AsyncClient:
    client.base_url = httpx2.URL(api.url)
    return client


@pytest.mark.parametrize(
    ("status", "kind", "headers"),
    [
        (401, "authentication_error", {}),
        (403, "permission_error", {}),
        (404, "not_found_error", {}),
        (429, "rate_limit_error", {"retry-after": "7", "anthropic-ratelimit-requests-remaining": "0"}),
        (500, "api_error", {"x-should-retry": "true"}),
        (529, "overloaded_error", {}),
    ],
)
async def test_an_error_of_the_api_comes_back_unchanged(
    status: int, kind: str, headers: dict[str, str], world: World
) -> None:
    world.api.scenario = error(status, kind, "as it was said", **headers)
    async with world.client() as client:
        reply = await ask(client)
    assert reply.status_code == status
    assert reply.json() == {"type": "error", "error": {"type": kind, "message": "as it was said"}}
    assert headers.items() <= dict(reply.headers).items()
    assert reply.headers["request-id"].startswith("req_fake")


async def test_a_stream_that_breaks_off_breaks_off_for_the_client_too(world: World) -> None:
    world.api.scenario = {"default": {"blocks": ["x" * 400], "cut_after": 4}}
    async with world.client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(client)
        world.api.scenario = {}
        assert (await ask(client)).status_code == 200


async def test_an_api_that_is_not_there_is_a_bad_gateway_and_blames_no_account(api: FakeAnthropic) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        nowhere = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        async with World.open(api, environ=nowhere) as world, world.client() as client:
            reply = await ask(client)
            check_unreachable(world, reply)


def check_unreachable(world: World, reply: httpx2.Response) -> None:
    assert reply.status_code == 502
    assert "cannot reach" in reply.json()["error"]["message"]
    assert not world.state().needs_login
    assert world.gateway.standing(ALICE).last is None
    assert world.meter.told == []


async def test_many_requests_go_over_one_connection_and_clients_do_not_mix(world: World) -> None:
    world.api.scenario = {"default": {"blocks": ["echo: {text}"], "chunk_delay": 0.005}}
    answers: dict[str, bytes] = {}

    async def talk(name: str, agent: object) -> None:
        async with world.client(BOB if agent == BOB else ALICE) as client:
            for number in range(4):
                text = f"{name}-{number}"
                answers[text] = (await ask(client, prompt(text))).content

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(talk, f"client{number}", BOB if number % 2 else ALICE)
    assert len(answers) == 16
    for text, body in answers.items():
        said = "".join(e["delta"].get("text", "") for e in events(body) if e["type"] == "content_block_delta")
        assert said == f"echo: {text}"


async def test_certificates_that_cannot_be_read_are_said_and_end_nothing(
    api: FakeAnthropic, tmp_path: Path
) -> None:
    async with (
        World.open(api, environ={"SSL_CERT_FILE": str(tmp_path / "none")}) as world,
        world.client() as client,
    ):
        await world.gateway.preload()
        for _ in range(2):
            reply = await ask(client)
            assert reply.status_code == 502
            assert "CA files" in reply.json()["error"]["message"]


def test_headers_of_a_reply_keep_nothing_of_one_connection_and_set_nothing_in_the_box() -> None:
    headers = [
        (b"content-type", b"a"), (b"connection", b"keep-alive, x-hop"), (b"x-hop", b"1"), (b"set-cookie", b"a"),
        (b"transfer-encoding", b"chunked"), (b"content-length", b"3"), (b"retry-after", b"3"),
    ]  # fmt: skip
    kept = [(b"content-type", b"a"), (b"content-length", b"3"), (b"retry-after", b"3")]
    assert to_client(headers) == kept
    assert to_upstream(headers, host=b"h", key="k", length=3)[0] == (b"host", b"h")


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "example.com,.anthropic.com"}, None),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "thropic.com"}, "http://proxy:3128"),
        ({"ALL_PROXY": "http://proxy:3128", "no_proxy": "*"}, None),
    ],
)
def test_the_operators_proxy_is_taken_as_the_cli_would(environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(Upstream({})._at, environ) == proxy


@pytest.mark.parametrize(
    "base", ["ftp://a", "api.anthropic.com", "http://", "http://me:secret@a", "http://[", "http://a:0"]
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(base: str) -> None:
    with pytest.raises(BadConfig) as refused:
        Upstream({"ANTHROPIC_BASE_URL": base})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://127.0.0.1:{port}", "ProxyError: 407 Proxy Authentication Required"),
        ("socks5://127.0.0.1:{port}", "only http and https"),
        ("http://user:secret-word@127.0.0.1:x", "is of no use"),
    ],
)
async def test_a_proxy_that_is_of_no_use_is_an_answer_that_says_so(
    proxy: str, said: str, api: FakeAnthropic, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        environ = {"ANTHROPIC_BASE_URL": "https://api.invalid", "HTTPS_PROXY": proxy.format(port=port)}
        async with anyio.create_task_group() as group, World.open(api, environ=environ) as world:
            group.start_soon(listener.serve, refuse)
            async with world.client() as client:
                answer = await ask(client)
            group.cancel_scope.cancel()
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (502, True), answer.text
    assert "model_connection_failed" not in caplog.text
    assert "secret-word" not in caplog.text + answer.text
