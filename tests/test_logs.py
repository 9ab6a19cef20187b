"""How logs look, and what is never in them."""

import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hyperhive import logs

log = logging.getLogger("hyperhive.tests.logs")


@pytest.fixture(autouse=True)
def structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(form: logs.Form = "json") -> tuple[io.StringIO, logs.Form]:
    return io.StringIO(), form


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_library_record_becomes_an_event_with_fields() -> None:
    stream = io.StringIO()
    with logs.configured(stream=stream):
        log.info("turn_ended agent=%s turn=%d seconds=%.1f", "alice", 7, 1.25)
        log.warning("it is %s%% full", 90)
        log.info("with extra", extra={"agent": "bob"})
    first, second, third = events(stream)
    assert first["event"] == "turn_ended"
    assert (first["agent"], first["turn"], first["seconds"]) == ("alice", 7, 1.25)
    assert (first["level"], first["logger"]) == ("info", "hyperhive.tests.logs")
    assert second["event"] == "it is 90% full"
    assert third["agent"] == "bob"


def test_a_path_is_its_name_and_a_percent_sign_itself() -> None:
    stream = io.StringIO()
    with logs.configured(stream=stream):
        log.info("file_read path=%s", Path("/a/b"))
        structlog.get_logger("hyperhive.cli").info("100% done", path=Path("/c"), share="5%")
    first, second = events(stream)
    assert first["path"] == "/a/b"
    assert (second["event"], second["path"], second["share"]) == ("100% done", "/c", "5%")


def test_bound_ids_are_on_every_event_of_their_context() -> None:
    stream = io.StringIO()
    with logs.configured(stream=stream), structlog.contextvars.bound_contextvars(agent="alice", turn=3):
        log.info("turn_started")
        structlog.get_logger("hyperhive.cli").info("hive_started", port=7)
    assert [(event["event"], event["agent"], event["turn"]) for event in events(stream)] == [
        ("turn_started", "alice", 3),
        ("hive_started", "alice", 3),
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_shows_no_local_variable(form: logs.Form) -> None:
    stream = io.StringIO()
    with logs.configured(stream=stream, form=form):
        token = "sk-" + "very-secret"
        try:
            raise ValueError(str(len(token)))
        except ValueError:
            log.exception("request_failed cmd=%s", "send")
    text = stream.getvalue()
    assert "ValueError" in text
    assert "request_failed" in text
    assert token not in text


@pytest.mark.parametrize("form", ["json", "text"])
def test_control_characters_are_visible(form: logs.Form) -> None:
    stream = io.StringIO()
    with logs.configured(stream=stream, form=form):
        log.info("cli_said text=%s", "\x1b[2J\x9b\u202e")
    line = stream.getvalue().rstrip("\n")
    assert line.isprintable()
    assert "1b" in line


def test_the_file_is_private_and_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    with logs.configured(directory=tmp_path / "log"):
        for number in range(200):
            log.info("counted number=%d", number)
    files = sorted((tmp_path / "log").iterdir())
    assert len(files) == logs.FILES_KEPT
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    last = (tmp_path / "log" / logs.FILE_NAME).read_text().splitlines()[-1]
    assert json.loads(last)["number"] == 199


def test_leaving_puts_logging_back() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logs.configured(stream=io.StringIO(), level="DEBUG"):
        assert root.level == logging.DEBUG
    assert (root.level, list(root.handlers)) == before


def test_the_terminal_may_show_less_than_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    with logs.configured(directory=tmp_path, stream=stream, form="text", stream_level="WARNING"):
        log.info("agent_started agent=%s", "alice")
        log.warning("account_limited account=%s", "default")
    assert "agent_started" not in stream.getvalue()
    assert "account_limited" in stream.getvalue()
    assert "agent_started" in (tmp_path / logs.FILE_NAME).read_text()


def test_machines_get_json_and_people_text() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert logs.stream_form(io.StringIO(), {}) == "json"
    assert logs.stream_form(Terminal(), {}) == "text"
    assert logs.stream_form(Terminal(), {"JOURNAL_STREAM": "8:1"}) == "json"
