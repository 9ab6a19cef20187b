"""Every error is told the same way, with a status from one table; a bug of ours is logged without what was said."""

import logging

import pytest

from hyperhive import errors
from hyperhive.protocol.codec import _CODES
from hyperhive.web import front
from hyperhive.web.problems import STATUS, status_of
from web_client import Browser


def kinds(root: type[errors.HiveError]) -> set[type[errors.HiveError]]:
    return {root}.union(*(kinds(child) for child in root.__subclasses__()))


def test_every_code_has_a_status() -> None:
    codes = {kind.code for kind in kinds(errors.HiveError)} | set(_CODES)
    assert codes - set(STATUS) == set()
    assert all(400 <= status < 600 for status in STATUS.values())
    assert status_of("of a newer version") == 409


async def test_a_problem_says_what_is_wrong_how_to_mend_it_and_where_to_look(browser: Browser) -> None:
    told = await browser.ask("POST", "/start/carl", {})
    assert told.header("content-type") == "application/problem+json"
    problem = told.json
    assert problem.pop("request_id") == told.header("x-request-id")
    assert problem == {
        "type": "urn:hyperhive:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no agent named carl",
        "code": "not_found",
        "hint": "`hyperhive list` shows who there is",
    }


BAD = [  # path, body, status, code
    ("/api/request", b"[[[", 400, "bad_request"),
    ("/api/request", b"[" * 100_000, 400, "bad_request"),
    ("/api/request", b"\xff\xfe", 400, "bad_request"),
    ("/api/request", b"", 400, "bad_request"),
    ("/api/request", b'{"cmd":"nope"}', 400, "bad_request"),
    ("/api/request", b'{"cmd":"recv"}', 403, "forbidden"),
    ("/api/request", b'{"cmd":"attach"}', 403, "forbidden"),
    ("/api/request", b'{"cmd":"subscribe","stream":"hive"}', 501, "not_available"),
    ("/op-send", b'{"to":"manager"}', 400, "bad_request"),
    ("/op-send", b'{"to":"manager","body":"hi","cmd":"list"}', 400, "bad_request"),
    ("/op-send", b'{"to":"manager","body":"hi","colour":"red"}', 400, "bad_request"),
    ("/op-send", b'{"to":"No","body":"hi"}', 400, "invalid_name"),
    ("/op-send", b"[1]", 400, "bad_request"),
    ("/approve/1", b'{"id":2}', 400, "bad_request"),
    ("/approve/99999999999999999999999", b"{}", 400, "bad_request"),
    ("/approve/0", b"{}", 400, "bad_request"),
    ("/approve/x", b"{}", 404, "not_found"),
    ("/approve/1", b"{}", 404, "not_found"),
    ("/destroy/manager", b"{}", 403, "forbidden"),
    ("/session", b'{"token":1}', 400, "bad_request"),
    ("/session", b'{"token":"a","x":1}', 400, "bad_request"),
]  # fmt: skip


async def test_bad_input_gets_one_clear_error(browser: Browser) -> None:
    for path, body, status, code in BAD:
        told = await browser.ask("POST", path, raw_body=body)
        assert (told.status, told.json["code"]) == (status, code), (path, body[:50], told)
        assert len(told.body) < 1500, (path, body[:50])


async def test_a_bug_is_told_as_one_and_logged_without_the_body(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(front, "answered", broken)
    with caplog.at_level(logging.INFO):
        told = await browser.request(cmd="send", to="manager", body="between you and me")
    assert (told.status, told.json["code"]) == (500, "bug")
    assert "ZeroDivisionError" not in told.body.decode()
    assert f"request_id={told.json['request_id']}" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "between you and me" not in caplog.text
    monkeypatch.undo()
    assert (await browser.request(cmd="list")).status == 200
