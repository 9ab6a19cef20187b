"""The real agent CLI behind the hive's model gateway: what is in its box, whole turns, and what their ends come to."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hive_process import HivePlace, HiveProcess, agent_serve, running, turns_of
from hyperhive.client import RemoteHive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import BudgetPage
from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn
from parts import claude_path
from story import Json, bash

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

CANARY = "sk-ant-canary-0123456789abcdef"
KEYED = {"ANTHROPIC_API_KEY": CANARY}
OLDEST = pytest.mark.needs("claude-2.1.200")
VERSIONS = [pytest.param("2.1.328"), pytest.param("2.1.200", marks=OLDEST)]
NEWEST_FIRST = [pytest.param("2.1.328"), pytest.param("2.1.200", marks=[OLDEST, pytest.mark.campaign])]
USED = {
    "input_tokens": 11, "output_tokens": 222, "cache_read_input_tokens": 3333, "cache_creation_input_tokens": 44,
}  # fmt: skip

LITTLE = dict.fromkeys(USED, 1)

PATTERN = f"'[{CANARY[0]}]{CANARY[1:20]}'"
"""Finds the key, and not the command that looks for it."""

LOOK = f"""
echo proc: $(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -e {PATTERN})
echo files: $(grep -rl -e {PATTERN} / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null)
echo key: $ANTHROPIC_API_KEY base: $ANTHROPIC_BASE_URL
echo nets: $(tail -n +3 /proc/net/dev | cut -d: -f1)
echo sockets: $(find /run -type s | sort)
python3 - <<'END'
import socket
for family, at in [(socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_INET, ("1.1.1.1", 53)),
                   (socket.AF_UNIX, "\\0hyperhive-story"), (socket.AF_UNIX, "BOB")]:
    with socket.socket(family) as it:
        it.settimeout(2)
        try:
            it.connect(at)
            print("reached", at)
        except OSError as error:
            print("refused", type(error).__name__)
END
"""


async def told_to(
    command: str, place: HivePlace, hive: HiveProcess, client: RemoteHive, api: FakeAnthropic
) -> str:
    """What alice's Bash said to this command."""
    api.scenario = {"rules": [tool_turn(r"\nrun it\n", bash(command), end="ran")]}
    before = len(api.requests)
    await client.broker.send("operator", "alice", "run it")
    await hive.until(lambda: place.mail() and all(one.acked for one in place.mail()))
    results = [one["tool_result"] for one in api.requests[before:] if one["round"] == 1]
    assert len(results) == 1
    return str(results[0])


@contextmanager
def abstract(name: str) -> Iterator[None]:
    """An abstract unix socket of the host's that takes everybody."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        yield


async def test_no_key_and_no_network_are_in_the_box(places: NewPlace, api: FakeAnthropic) -> None:
    place = places(environ=KEYED)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.lifecycle.spawn("bob")
        bobs = place.run / "agents" / "bob" / "model.sock"
        assert bobs.is_socket()
        look = LOOK.replace("PORT", str(api.port)).replace("BOB", str(bobs))
        with abstract("hyperhive-story"):
            seen = await told_to(look, place, hive, client, api)
        assert seen.splitlines() == [
            "proc: 0",
            "files:",
            "key: none base: http://hive",
            "nets: lo",
            "sockets: /run/hive/mcp.sock /run/hive/model.sock",
            "refused ConnectionRefusedError",
            "refused OSError",
            "refused ConnectionRefusedError",
            "refused FileNotFoundError",
        ]
        keyed = [one for one in place.processes() if one.pid != hive.pid and holds(one.pid, CANARY)]
        assert keyed == [], (
            "no process but the core itself has it, neither as an argument nor in its environment"
        )
        status = await client.lifecycle.status("alice")
        assert status.agents[0].view.network == "none"
        assert not any("key" in warning or "network" in warning for warning in status.agents[0].warnings)
    assert CANARY not in place.errors.read_text()
    assert not [
        path for path in place.state.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]


def holds(pid: int, word: str) -> bool:
    """Whether this process shows a word to whoever may look."""
    with suppress(OSError):
        proc = Path(f"/proc/{pid}")
        return word.encode() in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
    return False


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_turn_is_streamed_through_and_metered_as_it_was_sent(
    version: str, places: NewPlace, api: FakeAnthropic
) -> None:
    place = places(version, environ=KEYED)
    rule = tool_turn(r"\nrun it\n", bash("echo from the box"), end="done: {tool_result}")
    for step in rule["steps"]:
        step |= {"usage": USED, "chunk_delay": 0.01}
    api.scenario = {"rules": [rule]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "run it")
        await hive.until(lambda: place.mail() and all(one.acked for one in place.mail()))
        (turn,) = await turns_of(client, "alice", 1)
        page = await client.request(r.Budget(name="alice"))
    assert [one["tool_result"] for one in api.requests if one["round"] == 1] == ["from the box"]
    assert turn.result_kind == "ok"
    assert isinstance(page, BudgetPage)
    (spent,) = page.spent
    assert spent.day_tokens == len(of_the_turn(api)) * sum(USED.values()) == 2 * sum(USED.values())


@pytest.mark.parametrize("version", NEWEST_FIRST)
async def test_every_refusal_of_the_api_comes_to_what_it_is(
    version: str, places: NewPlace, api: FakeAnthropic
) -> None:
    """500, 429, a cut stream, 401: the message is worked in the end, and marked, but blamed for nothing."""
    place = places(version, environ=KEYED)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        for number, scenario in enumerate(
            (
                error(500, "api_error", "Internal server error"),
                error(429, "rate_limit_error", "slow down", **{"retry-after": "1"}),
                {"rules": [{"match": "again", "times": 1, "blocks": ["x" * 400], "cut_after": 3}]},
            )
        ):
            api.scenario = scenario
            before = len(api.requests)
            await client.broker.send("operator", "alice", f"again {number}")
            await hive.until(lambda: len(api.requests) > before)  # noqa: B023 - it holds within this round
            await hive.until(lambda: any(one["round"] == 0 for one in api.requests[before:]))  # noqa: B023
            api.scenario = {} if "rules" not in scenario else scenario
            await hive.until(lambda: all(one.acked for one in place.mail()))
            assert all(one.tries == 0 for one in place.mail())
        api.scenario = error(401, "authentication_error", "invalid x-api-key")
        await client.broker.send("operator", "alice", "again at last")
        await hive.until(lambda: waits_for(hive, "login"))
        accounts = await client.request(r.Account())
        assert [one.needs_login for one in accounts.accounts] == [True]  # type: ignore[attr-defined]
    assert place.mail()[-1].tries == 0


def of_the_turn(api: FakeAnthropic) -> list[Json]:
    """The requests of alice's turn: the manager has one of its own, about her."""
    return [one for one in api.requests if "\nrun it\n" in str(one["text"])]


def waits_for(hive: HiveProcess, reason: str) -> bool:
    """Whether the fleet's last word on alice is that she waits for this."""
    views = [frame["container"] for frame in hive.frames if frame.get("kind") == "container_state_changed"]
    mine = [view for view in views if view["name"] == "alice"]
    return bool(mine) and mine[-1].get("waiting_reason") == reason


@pytest.mark.parametrize("version", NEWEST_FIRST)
async def test_a_budget_bites_between_two_requests_of_one_turn(
    version: str, places: NewPlace, api: FakeAnthropic
) -> None:
    """The turn pauses, its message and what follows it wait unblamed, and a raise lets all go on."""
    budget = "\n[agents.alice.limits]\nbudget = {tokens_per_day = 3500}\n"
    place = places(version, toml=budget, environ=KEYED)
    dear, cheap = (tool_turn(r"\nrun it\n", bash("echo once"), end="done") for _ in range(2))
    dear["steps"][0]["usage"] = USED
    for step in cheap["steps"]:
        step["usage"] = LITTLE
    default = {"blocks": ["ok"], "usage": LITTLE}
    api.scenario = {"rules": [{**dear, "times": 1}, cheap], "default": default}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "run it")
        await hive.until(lambda: waits_for(hive, "budget"))
        assert len(of_the_turn(api)) == 1, "the second request of the turn never reached the API"
        await client.broker.send("operator", "alice", "and this")
        assert [(one.acked, one.tries, one.parked) for one in place.mail()] == [(False, 0, None)] * 2, (
            "they wait, and are blamed for nothing"
        )
        accounts = await client.request(r.Account())
        assert [one.needs_login for one in accounts.accounts] == [False]  # type: ignore[attr-defined]
        status = await client.lifecycle.status("alice")
        assert not status.agents[0].view.needs_login
        [question] = await client.broker.questions.open()
        assert (question.asker, question.options) == ("system", ("raise", "wait", "stop"))
        assert "alice" in question.question
        await client.broker.questions.answer(question.id, "raise")
        await hive.until(lambda: all(one.acked for one in place.mail()))
        assert [one.tries for one in place.mail()] == [0, 0]
        assert await client.broker.questions.open() == []
        page = await client.request(r.Budget(name="alice"))
    assert isinstance(page, BudgetPage)
    (session,) = {one["headers"]["x-claude-code-session-id"] for one in of_the_turn(api)}
    hers = [one for one in api.requests if one["headers"]["x-claude-code-session-id"] == session]
    assert page.spent[0].day_tokens == sum(USED.values()) + (len(hers) - 1) * sum(LITTLE.values())


async def test_a_harness_of_its_own_is_served_by_the_core(places: NewPlace, api: FakeAnthropic) -> None:
    place = places(toml='\n[agents.alice]\nharness = "own"\n', environ=KEYED)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        async with agent_serve(place, "alice") as harness:
            said = await told_to(
                "echo $ANTHROPIC_API_KEY; tail -n +3 /proc/net/dev | cut -d: -f1", place, hive, client, api
            )
            assert said.split() == ["none", "lo"]
            keyed = [one for one in place.processes() if holds(one.pid, CANARY)]
            assert {one.pid for one in keyed} == {hive.pid, harness.pid}
            api.scenario = error(401, "authentication_error", "invalid x-api-key")
            await client.broker.send("operator", "alice", "more")
            await hive.until(lambda: waits_for(hive, "login"))
            api.scenario = {}
            await client.request(r.Account(name="default", key="another-key"))
            await hive.until(lambda: all(one.acked for one in place.mail()))


async def test_a_cli_that_knows_no_unix_socket_goes_through_a_forwarder(
    places: NewPlace, api: FakeAnthropic, tmp_path: Path
) -> None:
    """An untested version that was found not to speak over the socket; here the real one, which never learns of it."""
    real = claude_path("2.1.328").resolve()
    cli = tmp_path / "claude"
    cli.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "2.1.329 (Claude Code)"; exit 0; fi\n'
        "unset ANTHROPIC_UNIX_SOCKET\n"
        f'if [ -x /workspace/cli/{real.name} ]; then exec /workspace/cli/{real.name} "$@"; fi\n'
        f'exec {real} "$@"\n'
    )
    cli.chmod(0o755)
    mount = f'\n[agents.alice]\nmounts = [{{source = "{real.parent}", target = "/workspace/cli"}}]\n'
    place = places(toml=mount, environ={**KEYED, "HYPERHIVE_CLAUDE": str(cli)})
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        look = "echo $ANTHROPIC_BASE_URL; tail -n +3 /proc/net/dev | cut -d: -f1"
        base, *nets = (await told_to(look, place, hive, client, api)).split()
    assert base.startswith("http://127.0.0.1:")
    assert nets == ["lo"]


async def test_host_must_be_asked_for_and_is_said(places: NewPlace, api: FakeAnthropic) -> None:
    place = places(toml='\n[agents.alice]\nnetwork = "host"\n', environ=KEYED)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        reach = f"exec 3<>/dev/tcp/127.0.0.1/{api.port} && echo reached"
        assert await told_to(reach, place, hive, client, api) == "reached"
        status = await client.lifecycle.status("alice")
    assert status.agents[0].view.network == "host"
    assert any("shares the host's network" in warning for warning in status.agents[0].warnings)
