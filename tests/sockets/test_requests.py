"""Claims about requests on a socket: who asks, in which order answers come, what a bad line does."""

from pathlib import Path

import anyio
import pytest

from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Caller
from peer import peer
from small_hive import small_hive


async def test_the_socket_says_who_sends(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        sent = await alice.ask({"cmd": "send", "to": "bob", "body": "hi"})
        assert sent["kind"] == "ok"
        assert [row.sender for row in await hive.broker.recent("bob")] == ["alice"]


async def test_a_sender_that_is_claimed_in_the_request_is_refused(root: Path) -> None:
    """Pain 20: nobody can be made to look like the sender; who wrote follows from the socket alone."""
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        refused = await alice.ask({"cmd": "send", "to": "bob", "body": "hi", "from": "operator"})
        assert (refused["kind"], refused["code"]) == ("err", "bad_request")
        assert "from" in refused["message"]
        assert await hive.broker.pending("bob") == 0


async def test_the_operators_socket_answers_in_the_shape_of_host_response(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.host) as operator:
        assert await operator.ask({"cmd": "list"}) == {"ok": True, "agents": ["alice", "bob"]}
        refused = await operator.ask({"cmd": "recv"})
        assert refused["ok"] is False
        assert refused["code"] == "forbidden"
        assert "error" in refused


async def test_an_agents_socket_serves_nothing_of_the_operators_and_nothing_of_the_harness(
    root: Path,
) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        for cmd in ("list", "inbox", "recv", "ack_turn", "attach"):
            assert (await alice.ask({"cmd": cmd}))["code"] == "forbidden", cmd
        assert (await alice.ask({"cmd": "subscribe", "stream": "hive"}))["code"] == "forbidden"


BAD = [
    (b"no json", "no valid request"),
    (b"", "no valid request"),
    (b"[1]", "no valid request"),
    (b"null", "no valid request"),
    (b'{"to":"bob"}', "`cmd`"),
    (b'{"cmd":"fly"}', "fly"),
    (b'{"cmd":"send","to":"bob"}', "body"),
    (b'{"cmd":"send","to":"bob","body":"x","colour":1}', "colour"),
    (b'{"cmd":"send","to":"bob","body":7}', "body"),
    (b'{"cmd":"status","req":{}}', "req"),
    (b"\xff\xfe", "request"),
    (b"[" * 100_000, "request"),
]


@pytest.mark.parametrize(("line", "named"), BAD)
async def test_a_bad_line_is_answered_with_what_is_wrong_and_the_connection_stays_usable(
    root: Path, line: bytes, named: str
) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        await alice.raw(line + b"\n")
        refused = await alice.hear()
        assert (refused["kind"], refused["code"]) == ("err", "bad_request")
        assert named in refused["message"]
        assert (await alice.ask({"cmd": "status"})) == {"kind": "status", "unread": 0}
        assert await hive.broker.pending("bob") == 0


async def test_a_bad_line_with_a_number_is_answered_with_that_number(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        refused = await alice.ask({"cmd": "fly", "req": "seven"})
        assert (refused["code"], refused["req"]) == ("bad_request", "seven")


async def test_a_line_longer_than_the_limit_is_answered_and_the_connection_closed(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        await alice.raw(b'{"cmd":"send","to":"bob","body":"' + b"x" * (3 * 1024 * 1024))
        refused = await alice.hear()
        assert refused["code"] == "bad_request"
        assert "1048576" in refused["message"]
        assert await alice.ended()
        async with peer(hive.tools_socket("alice")) as again:
            assert (await again.ask({"cmd": "status"}))["kind"] == "status"


async def test_replies_without_a_number_come_in_order_though_an_earlier_one_waits(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.harness_socket("bob")) as bob:
        await bob.say({"cmd": "recv", "wait_seconds": 60}, {"cmd": "status"}, {"cmd": "fly"})
        await hive.receiving.wait()
        await hive.broker.send("alice", "bob", "hi")
        assert [(await bob.hear())["kind"] for _ in range(3)] == ["messages", "status", "err"]


async def test_a_numbered_request_overtakes_one_that_waits(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.harness_socket("bob")) as bob:
        await bob.say({"cmd": "recv", "wait_seconds": 60, "req": 1}, {"cmd": "status", "req": "two"})
        assert (await bob.hear()) == {"kind": "status", "unread": 0, "req": "two"}
        await hive.broker.send("alice", "bob", "hi")
        assert (await bob.hear())["req"] == 1


async def test_a_request_may_come_in_pieces(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        for piece in (b'{"cmd":', b'"sta', b'tus"}\n{"cmd"', b':"status"}\n'):
            await alice.raw(piece)
            await anyio.wait_all_tasks_blocked()
        assert [(await alice.hear())["kind"] for _ in range(2)] == ["status", "status"]


async def test_who_only_closes_its_own_direction_still_gets_its_answers(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:
        await alice.say({"cmd": "status"}, {"cmd": "send", "to": "bob", "body": "hi"})
        await alice.done_writing()
        assert [(await alice.hear())["kind"] for _ in range(2)] == ["status", "ok"]
        assert await alice.ended()


async def test_a_reply_that_would_be_too_long_is_an_error_that_says_so(root: Path) -> None:
    async def logs(caller: Caller, request: r.Logs) -> a.Reply:
        del caller, request
        return a.LogLines(lines=["x" * 1024] * 3000)

    async with small_hive(root, handlers={r.Logs: logs}) as hive, peer(hive.host) as operator:
        refused = await operator.ask({"cmd": "logs", "name": "alice"})
        assert (refused["ok"], refused["code"]) == (False, "limit")
        assert (await operator.ask({"cmd": "list"}))["ok"]


async def test_a_handlers_bug_is_answered_and_takes_nothing_with_it(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def names(caller: Caller, request: r.List) -> a.Reply:
        raise ZeroDivisionError(caller, request)

    async with small_hive(root, handlers={r.List: names}) as hive, peer(hive.host) as operator:
        assert (await operator.ask({"cmd": "list"}))["code"] == "bug"
        assert (await operator.ask({"cmd": "inbox"}))["ok"]
    assert "request_failed" in caplog.text


async def test_what_no_handler_serves_is_not_available(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.host) as operator:
        refused = await operator.ask({"cmd": "audit"})
        assert refused["code"] == "not_available"
        assert "audit" in refused["error"]
