"""The routes stand for requests of the operator's: same effect, same reply; the audit says that it came by the web."""

from pathlib import Path

from hyperhive.protocol import requests as r
from hyperhive.protocol.events import QuestionResolved
from hyperhive.web.front import WEB
from hyperhive.web.routes.requests import SPELLINGS
from web_client import Browser, Served, serving


def test_the_web_speaks_as_the_operator_by_its_own_channel() -> None:
    assert (WEB.name, WEB.channel) == ("operator", "web")


async def test_any_request_may_be_posted_and_is_answered_in_both_dialects(browser: Browser) -> None:
    told = await browser.request(cmd="list", req="a")
    assert told.json == {"ok": True, "kind": "agents", "req": "a", "agents": ["manager"]}
    assert told.header("content-type") == "application/json"
    assert told.header("cache-control") == "no-store"


async def test_the_original_spellings_do_what_their_requests_do(served: Served, browser: Browser) -> None:
    hive = served.hive
    assert (await browser.ask("POST", "/spawn", {"name": "bob"})).json["ok"]
    assert "bob" in hive.lifecycle.names()
    sent = (await browser.ask("POST", "/op-send", {"to": "bob", "body": "hello"})).json["id"]
    assert [row.id for row in await hive.broker.recent("bob")] == [sent]
    assert (await browser.ask("POST", "/kill/bob", {"now": True})).status == 200
    assert not hive.lifecycle.view("bob").running
    assert (await browser.ask("POST", "/start/bob")).status == 200
    asked = (await browser.request(cmd="ask", to="bob", question="Well?")).json["id"]
    assert (await browser.ask("POST", f"/answer-question/{asked}", {"answer": "yes"})).status == 200
    assert (await browser.ask("POST", f"/answer-question/{asked}", {"answer": "no"})).status == 409
    assert (await browser.ask("POST", "/destroy/bob", {"purge": False, "now": True})).status == 200
    assert "bob" in hive.lifecycle.tombstones()
    assert (await browser.ask("POST", "/purge-tombstone/bob", {})).status == 200
    assert "bob" not in hive.lifecycle.tombstones()


async def test_an_answer_given_in_a_browser_says_so_everywhere_else(served: Served, browser: Browser) -> None:
    heard: list[QuestionResolved] = []
    served.hive.bus.tap(lambda event: heard.append(event) if isinstance(event, QuestionResolved) else None)
    asked = await served.hive.broker.questions.ask("manager", "Now?")
    assert (await browser.ask("POST", f"/answer-question/{asked}", {"answer": "yes"})).status == 200
    assert [(one.answerer, one.channel) for one in heard] == [("operator", "web")]
    row = (await browser.request(cmd="questions", id=asked)).json["questions"][0]
    assert (row["answerer"], row["channel"]) == ("operator", "web")
    late = await browser.request(cmd="answer", id=asked, answer="no")
    assert late.status == 409
    assert "by operator (web)" in late.json["detail"]


async def test_a_decision_made_in_a_browser_says_so_in_the_audit(browser: Browser) -> None:
    approval = (await browser.ask("POST", "/request-spawn", {"name": "carl"})).json["id"]
    assert (await browser.ask("GET", f"/api/approvals/{approval}")).json["approval"]["agent"] == "carl"
    told = await browser.ask("POST", f"/deny/{approval}", {"note": "not now"})
    assert told.status == 200, told
    entry = (await browser.request(cmd="audit")).json["entries"][0]
    assert (entry["action"], entry["who"], entry["channel"]) == ("denied", "operator", "web")
    assert (await browser.ask("POST", f"/deny/{approval}", {})).status == 409


async def test_the_state_is_the_hives_with_the_number_it_goes_on_from(
    served: Served, browser: Browser
) -> None:
    state = (await browser.ask("GET", "/api/state")).json
    assert {
        "seq", "containers", "approvals", "questions", "inbox", "transients", "tombstones", "meta_inputs", "reminders",
        "hive",
    } <= set(state)  # fmt: skip
    assert state["seq"] <= served.hive.bus.current_seq
    assert [each["name"] for each in state["containers"]] == ["manager"]
    assert (await browser.ask("POST", "/api/request", {"cmd": "state"})).json["hive"] == state["hive"]


async def test_a_query_is_as_strict_as_a_body(browser: Browser) -> None:
    assert (await browser.ask("GET", "/api/journal/manager?lines=3")).status == 200
    for query in ("lines=x", "lines=-1", "lnes=3", "lines=3&lines=4", "name=bob", "cmd=list"):
        told = await browser.ask("GET", f"/api/journal/manager?{query}")
        assert (told.status, told.json["code"]) == (400, "bad_request"), query


def test_every_spelling_is_a_request_of_the_operators() -> None:
    assert len({(each.method, each.path) for each in SPELLINGS}) == len(SPELLINGS)
    assert len({each.operation_id for each in SPELLINGS}) == len(SPELLINGS)
    assert r.Approve in {each.request for each in SPELLINGS}


async def test_status_says_where_the_dashboard_is(home: Path) -> None:
    async with serving(home) as served:
        browser = await served.browser()
        assert (await browser.request(cmd="status")).json["hive"]["dashboard"] == f"http://{served.host}"
