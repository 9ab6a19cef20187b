"""What `search`, `messages`, `digest`, `config` and the flags that look back print and ask for."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from console import Console, Done
from desk import answers, desk, does
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.screens import (
    ConfigFile,
    ConfigStand,
    Deployment,
    DigestAgent,
    DigestItem,
    FlowRow,
    ProposedStand,
    SearchHit,
    SnippetPiece,
)
from hyperhive.protocol.types import TurnRow

EVIL = "\x1b[31mevil\u202e"


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    console.env["COLUMNS"] = "200"
    return tmp_path / "run"


class Asked:
    """Remembers what was asked for, and answers with the same each time."""

    def __init__(self, reply: p.Reply) -> None:
        self.requests: list[r.Request] = []
        self._reply = reply

    @property
    def handler(self) -> Callable[[r.Request], Awaitable[p.Reply]]:
        async def answer(request: r.Request) -> p.Reply:
            self.requests.append(request)
            return self._reply

        return answer


async def test_search_prints_each_hit_with_the_way_to_it(console: Console, at: Path) -> None:
    pieces = (SnippetPiece(text=f"a {EVIL} "), SnippetPiece(text="needle", hit=True))
    asked = Asked(
        p.SearchHits(
            hits=[
                SearchHit(
                    kind="message", id=5, cursor=9, at=1, sender="alice", recipient="bob", snippet=pieces
                ),
                SearchHit(kind="event", id=3, cursor=8, at=1, agent="bob", turn=7, eid=3, snippet=pieces),
            ],
            behind=True,
        )
    )
    async with desk(at, {r.Search: does(asked.handler)}):
        done = await run(console, "search", "needle", "two words", "--scope", "messages")
        as_json = await run(console, "search", "needle", "--json")
    assert asked.requests[0] == r.Search(query="needle two words", limit=20, scope="messages")
    assert "message 5 from alice to bob" in done.out
    assert "bob, turn 7, event 3" in done.out
    assert "needle" in done.out
    assert "older texts may be missing" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)
    assert as_json.json["hits"][0]["from"] == "alice"


async def test_messages_lists_a_pair_and_shows_one_whole(console: Console, at: Path) -> None:
    row = FlowRow(
        id=5, sender="alice", recipient="bob", body=f"hello {EVIL}", at=1, state="acked", turn=12, acked_at=2
    )
    asked = Asked(p.FlowPage(rows=[row], more=True))
    one = Asked(p.OneMessage(message=row))
    async with desk(at, {r.Flow: does(asked.handler), r.Message: does(one.handler)}):
        done = await run(console, "messages", "alice", "bob", "--state", "acked", "--text", "hello")
        whole = await run(console, "messages", "--id", "5")
    assert asked.requests == [r.Flow(agent="alice", other="bob", state="acked", q="hello", limit=30)]
    assert "acked (turn 12)" in done.out
    assert "--before 5" in done.out
    assert "message 5 from alice to bob" in whole.out
    assert not {"\x1b", "\u202e"} & set(done.out + whole.out)


async def test_digest_and_config_say_what_there_is(console: Console, at: Path) -> None:
    digest = Asked(
        p.DigestPage(
            since=1,
            finished=2,
            failed=1,
            tokens=1500,
            agents=[DigestAgent(name="alice", turns=3, failed=1, tokens=1500)],
            items=[DigestItem(kind="crashed", at=1, agent="alice", text=EVIL)],
        )
    )
    config = p.AgentConfigPage(
        name="alice",
        deployed=ConfigStand(sha="ab" * 20, id=3, files=(ConfigFile(path="agent.toml", size=4, text=EVIL),)),
        proposed=ProposedStand(sha="cd" * 20, approval=4, differs=True),
        effective={"model": "opus"},
        cut=("network: cut",),
        deployments=(Deployment(id=3, sha="ab" * 20), Deployment(id=0, sha="ef" * 20)),
    )
    async with desk(at, {r.Digest: does(digest.handler), r.AgentConfig: answers(config)}):
        told = await run(console, "digest", "--since", "2h")
        shown = await run(console, "config", "alice")
    [asked] = digest.requests
    assert isinstance(asked, r.Digest)
    assert abs(asked.since - (time.time() - 7200)) < 60
    assert "2 turns finished, 1 failed" in told.out
    assert "price unknown" in told.out, "which is not the same as nothing"
    assert "crashed" in told.out
    for expected in (
        "deployed: abababababab (number 3)",
        "approval 4: differs",
        "model = opus",
        "network: cut",
    ):
        assert expected in shown.out
    assert "rollback --to 0" in shown.out
    assert not {"\x1b", "\u202e"} & set(told.out + shown.out)


async def test_turns_and_logs_and_audit_ask_for_a_time_or_an_agent(console: Console, at: Path) -> None:
    bad = TurnRow(
        started_at=1, ended_at=1, duration_ms=1, model="m", wake_from="bob", result_kind="crashed", turn=7,
        last_tool='Bash {"command":"make"}', error="exit code 3", stderr=f"no such module {EVIL}",
    )  # fmt: skip
    turns, logs, audit = (
        Asked(p.TurnRows(turns=[bad])),
        Asked(p.LogLines(lines=["x"])),
        Asked(p.AuditRows(entries=[])),
    )
    table: dict[type[r.Request], Handler] = {
        r.Turns: does(turns.handler),
        r.Logs: does(logs.handler),
        r.Audit: does(audit.handler),
    }
    async with desk(at, table):
        done = await run(
            console, "turns", "alice", "--failed", "--since", "1900000000", "--until", "1900000600"
        )
        await run(console, "logs", "alice", "--since", "1900000000", "--until", "1900000060")
        await run(console, "audit", "alice")
    assert turns.requests == [r.Turns(name="alice", failed=True, since=1_900_000_000, until=1_900_000_600)]
    assert logs.requests == [r.Logs(name="alice", since=1_900_000_000, until=1_900_000_060)]
    assert audit.requests == [r.Audit(agent="alice")]
    for expected in ('last tool call: Bash {"command":"make"}', "error: exit code 3", "no such module"):
        assert expected in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)
