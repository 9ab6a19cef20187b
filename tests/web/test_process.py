"""The pages of a hive that runs as a process: where they are, how one gets in, and how they end."""

import http.client
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from console import Console
from hyperhive.cli.dashboard import page_of
from hyperhive.errors import BadRequest
from up import Running, scripted


@pytest.fixture
def user(tmp_path: Path, home: Path) -> Console:
    """A user with a hive of their own, in a short directory."""
    (tmp_path / "home").mkdir(mode=0o700)
    return scripted(Console(tmp_path / "home"), home / "h")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


class Page:
    """A browser's tab, by hand."""

    def __init__(self, link: str) -> None:
        at = urlsplit(link)
        self.name, self.token = at.netloc, at.fragment
        self.link = http.client.HTTPConnection("127.0.0.1", at.port or 0, timeout=30)
        self.headers = {
            "Host": self.name, "Origin": f"http://{self.name}", "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/json",
        }  # fmt: skip

    def ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        self.link.close()  # a line of its own for each: a hive hangs up on one that was quiet for a while
        self.link.request(method, path, None if body is None else json.dumps(body), self.headers)
        return self.link.getresponse()

    def log_in(self) -> None:
        told = self.ask("POST", "/session", {"token": self.token})
        assert told.status == 200
        self.headers["Cookie"] = (told.getheader("set-cookie") or "").partition(";")[0]
        self.headers["X-Hive-Secret"] = json.loads(told.read())["secret"]

    def __enter__(self) -> Self:
        self.log_in()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


def test_up_prints_a_link_that_logs_in_and_ends_at_once_beside_an_open_stream(user: Console) -> None:
    with Running(user, "up", "--port", "0") as hive:
        hive.until(lambda: "Ctrl-C stops the hive" in hive.out)
        link = re.search(r"http://localhost:\d+/login#\S+", hive.out)
        assert link is not None
        with Page(link[0]) as page:
            assert json.loads(page.ask("GET", "/api/state").read())["containers"][0]["name"] == "manager"
            status = user.run("status", "--json").json["hive"]
            assert status["dashboard"] == f"http://{page.name}"
            again = user.run("open", "questions/7")
            assert re.fullmatch(rf"http://{page.name}/login\?to=/questions/7#\S+\n", again.out)
            with page.ask("GET", "/stream") as stream:
                assert b"resume" in stream.readline() + stream.readline()
                hive.signal(signal.SIGINT)
                assert hive.end() == 0
                while stream.readline():
                    pass
        assert "Traceback" not in hive.err
    said = b"".join(path.read_bytes() for path in (Path(user.env["HYPERHIVE_STATE_DIR"]) / "log").iterdir())
    for secret in (page.token, page.headers["X-Hive-Secret"], page.headers["Cookie"].partition("=")[2]):
        assert secret.encode() not in said


def test_a_port_that_was_asked_for_and_is_taken_is_one_clear_error(user: Console, taken: int) -> None:
    done = user.run("serve", "--port", str(taken), "--json", timeout=60)
    assert done.code == 4
    assert (done.json["code"], "--port 0" in done.json["hint"]) == ("conflict", True)
    assert f"127.0.0.1:{taken}" in done.json["error"]
    assert "Traceback" not in done.err
    user.env["HIVE_DASHBOARD_PORT"] = str(taken)
    assert user.run("up", "--json", timeout=60).json["code"] == "conflict"
    doctor = user.run("doctor", "--json", timeout=60).json
    check = next(each for each in doctor["checks"] if each["name"] == "dashboard")
    assert (check["verdict"], str(taken) in check["found"]) == ("warning", True)


def test_a_port_that_nobody_asked_for_is_another_one_where_it_is_taken(user: Console) -> None:
    del user.env["HIVE_DASHBOARD_PORT"]
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", 7000))
            other.listen()
        except OSError:
            pass  # somebody has it already, which is as good
        with Running(user, "up") as hive:
            hive.until(lambda: "Ctrl-C stops the hive" in hive.out)
            assert "(port 7000 is taken)" in hive.out
            hive.signal(signal.SIGINT)
            assert hive.end() == 0


def test_a_service_says_where_it_is_and_how_to_log_in_and_never_the_token(user: Console) -> None:
    with Running(user, "serve", "--port", "0") as hive:
        hive.until(lambda: '"login"' in hive.err)
        started = next(json.loads(line) for line in hive.err.splitlines() if '"login"' in line)
        assert started["dashboard"].startswith("http://localhost:")
        assert started["login"] == "hyperhive open"
        link = user.run("open", "--json").json["url"]
        with Page(link):
            pass
        hive.signal(signal.SIGTERM)
        assert hive.end() == 0
        assert "#" not in hive.err


def test_no_link_is_had_from_a_hive_that_does_not_run(user: Console) -> None:
    assert user.run("open").code == 5


def test_pages_are_named_as_people_name_them() -> None:
    assert page_of("approvals/3") == page_of("/approvals/3") == "/approvals/3"
    assert page_of("alice") == "/agents/alice"
    assert page_of("alice/t/7#e12") == "/agents/alice/t/7#e12"
    assert page_of("messages?agent=bob") == "/messages?agent=bob"
    for wrong in ("//evil.example", "", "a b", "\\evil"):
        with pytest.raises(BadRequest):
            page_of(wrong)
