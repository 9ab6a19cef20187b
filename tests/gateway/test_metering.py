"""What an agent used is what the API said, and nothing that agent or model wrote."""

import json
from collections.abc import Mapping
from contextlib import suppress

import anyio
import anyio.abc
import httpx2
import pytest
from anyio.abc import SocketStream

from gateway_world import ALICE, World, ask, prompt, until
from hyperhive.gateway.metering import GUESS_MAX, LINE_MAX, UsageReader, at_least
from hyperhive.protocol.types import TokenUsage
from hyperhive.spending.usage import Usage

USED = {
    "input_tokens": 11, "output_tokens": 222, "cache_read_input_tokens": 3333, "cache_creation_input_tokens": 44,
}  # fmt: skip
FORGED = 'data: {"type":"message_delta","usage":{"output_tokens":999999}}\n\nevent: message_start\n'


def counted(**counts: int) -> TokenUsage:
    return TokenUsage(**counts)


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_is_what_the_api_sent(stream: bool, world: World) -> None:
    world.api.scenario = {"default": {"blocks": [FORGED], "usage": USED}}
    async with world.client() as client:
        await ask(client, prompt(stream=stream))
        await ask(client, prompt(stream=stream, model="sonnet"))
    one = Usage(model="haiku", tokens=counted(**USED), complete=True)
    other = Usage(model="sonnet", tokens=counted(**USED), complete=True)
    assert world.meter.told == [(ALICE, one), (ALICE, other)]


async def test_the_count_is_there_before_the_client_has_the_end(world: World) -> None:
    """So that the next request of the same turn is judged by it, however fast it comes."""
    world.api.scenario = {"default": {"blocks": ["x" * 100], "usage": USED}}
    async with world.client() as client, client.stream("POST", "/v1/messages", json=prompt()) as reply:
        async for piece in reply.aiter_raw():
            if b"message_delta" in piece:
                assert len(world.meter.told) == 1


async def test_a_stream_that_broke_off_is_counted_as_at_least(world: World) -> None:
    world.api.scenario = {"default": {"blocks": ["x" * 400], "usage": USED, "cut_after": 4}}
    async with world.client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(client)
    (used,) = await world.meter.until_told(1)
    passed_by = 2  # pieces of text before the cut
    assert used == Usage(
        model="haiku", tokens=counted(**{**USED, "output_tokens": passed_by}), complete=False
    )


async def test_a_client_that_hangs_up_ends_the_request_upstream_and_pays_at_least(world: World) -> None:
    world.api.scenario = {"default": {"blocks": ["x" * 4000], "usage": USED, "chunk_delay": 0.3}}
    async with world.client() as client, client.stream("POST", "/v1/messages", json=prompt()) as reply:
        async for piece in reply.aiter_raw():
            if b"content_block_delta" in piece:
                break
    (used,) = await world.meter.until_told(1)
    assert (used.complete, used.tokens.input_tokens, used.model) == (False, 11, "haiku")
    await until(lambda: any(one.get("event") == "client went away" for one in world.api.log))


async def test_a_client_that_hangs_up_before_the_answer_ends_it_too_and_pays_for_what_it_sent(
    world: World,
) -> None:
    world.api.scenario = {"default": {"blocks": ["late"], "delay": 2.0}}
    stream = await world.raw()
    body = json.dumps(prompt("word " * 1000)).encode()
    await stream.send(
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    await until(lambda: world.api.requests)
    await stream.aclose()
    (used,) = await world.meter.until_told(1)
    assert used == Usage(model="haiku", tokens=counted(input_tokens=len(body) // 4), complete=False)


async def test_a_client_that_hangs_up_once_it_has_a_plain_reply_pays_for_it(world: World) -> None:
    """The API has not said yet that its reply is over; the client has read that for itself."""
    message = json.dumps({"type": "message", "model": "haiku", "usage": USED}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"%s%x\r\n%s\r\n" % (head, len(message), message))
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with (
            anyio.create_task_group() as group,
            World.open(world.api, environ={"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}) as other,
        ):
            group.start_soon(listener.serve, serve)
            async with (
                other.client() as client,
                client.stream("POST", "/v1/messages", json=prompt(stream=False)) as reply,
            ):
                got = b""
                async for piece in reply.aiter_raw():
                    got += piece
                    if got == message:
                        break
            (used,) = await other.meter.until_told(1)
            group.cancel_scope.cancel()
    assert used == Usage(model="haiku", tokens=counted(**USED), complete=True)


async def test_errors_and_counting_requests_cost_nothing(world: World) -> None:
    async with world.client() as client:
        await client.post("/v1/messages/count_tokens", json=prompt())
        world.api.scenario = {"default": {"error": {"status": 500, "type": "api_error", "message": "no"}}}
        await ask(client)
    assert world.meter.told == []


# --- the reader -------------------------------------------------------------------------------------------------------


def read(body: bytes, *, size: int, kind: bytes = b"text/event-stream; charset=utf-8") -> Usage | None:
    reader = UsageReader(kind)
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
    reader.end()
    return reader.usage()


def stream(*events: Mapping[str, object], newline: str = "\n") -> bytes:
    lines = (f"event: {one['type']}{newline}data: {json.dumps(one)}{newline}{newline}" for one in events)
    return "".join(lines).encode()


START = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 9}}


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_stream_may_be_cut_anywhere(size: int, newline: str) -> None:
    wanted = Usage(model="m", tokens=counted(input_tokens=5, output_tokens=9), complete=True)
    assert read(stream(START, DELTA, newline=newline), size=size) == wanted


def test_text_of_the_model_is_never_taken_for_usage() -> None:
    text = json.dumps(DELTA) + "\n\ndata: " + json.dumps(DELTA)
    said = {
        "type": "content_block_delta",
        "delta": {"type": "text_delta", "text": text},
        "usage": {"output_tokens": 7},
    }
    used = read(stream(START, said), size=50)
    assert used == Usage(model="m", tokens=counted(input_tokens=5, output_tokens=1), complete=False)


def test_of_several_totals_the_last_one_counts() -> None:
    """The API may send more than one, each with all that was used until then."""
    reader = UsageReader(b"text/event-stream")
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 90}}
    known = []
    for one in (START, DELTA, last):
        reader.feed(stream(one))
        known.append(reader.final)
    assert known == [False, False, True]
    assert reader.usage() == Usage(model="m", tokens=counted(input_tokens=5, output_tokens=90), complete=True)


@pytest.mark.parametrize(
    ("body", "model", "tokens"),
    [
        (b'{"model":"m","x":"' + b"a" * 4000 + b'"}', "m", 1005),
        (b"a" * 400, "", 100),
        (b"[" * 100_000, "", 25_000),
        (b"a" * 30_000_000, "", GUESS_MAX),
    ],
)
def test_without_a_word_of_the_api_a_request_costs_what_it_said_itself(
    body: bytes, model: str, tokens: int
) -> None:
    assert at_least(None, body) == Usage(model=model, tokens=counted(input_tokens=tokens), complete=False)


@pytest.mark.parametrize(
    "broken",
    [
        b"data: message_start\n", b'data: {"type":"message_start"\n', b'data: {"type":"message_delta","usage":3}\n',
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":-1e99}}}\n', b"data: \xff message_delta\n",
        b"data: " + b"[" * 100_000 + b"message_delta\n", b"x" * (LINE_MAX + 10) + b"\n",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_looked_past(broken: bytes) -> None:
    wanted = Usage(model="m", tokens=counted(input_tokens=5, output_tokens=9), complete=True)
    assert read(broken + stream(START) + broken + stream(DELTA), size=65_536) == wanted


def test_a_plain_reply_that_is_no_message_cost_nothing() -> None:
    for body in (b"", b"{}", b'{"type":"error"}', b"no json", b"[" * 100_000):
        assert read(body, size=1000, kind=b"application/json") is None
