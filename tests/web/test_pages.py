"""The page is the same at each of its addresses, strict about what it loads, and open to all: it holds nothing."""

import re
from pathlib import Path

import pytest

from hyperhive.web.pages import PAGES
from hyperhive.web.static_files import NOT_BUILT, StaticFiles
from parts import ROOT
from web_client import Browser, Served

ADDRESSES = (
    "/", "/login", "/needs-you", "/approvals", "/approvals/3", "/questions", "/questions/3", "/inbox",
    "/messages?agent=bob&q=x", "/search?q=x", "/agents/bob", "/agents/bob/stats", "/agents/bob/t/7", "/a/bob/t/7",
    "/agents/bob/mail", "/logs", "/settings", "/stats", "/config/bob", "/logs/bob", "/audit", "/dead",
    "/meta", "/sessions",
)  # fmt: skip


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Pages that this hive serves in place of its own."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>one</title>" + " " * 2000)
    (tmp_path / "assets" / "main-1a2b.js").write_text("let a = 1;" * 500)
    (tmp_path / "favicon.svg").write_text("<svg/>")
    (tmp_path / "notes.md").write_text("not for the web")
    (tmp_path / "assets" / "link.js").symlink_to("/etc/passwd")
    return tmp_path


@pytest.fixture
async def stranger(served: Served, built: Path) -> Browser:
    stranger = served.stranger()
    await stranger.ask("GET", "/")
    web = served.hive._edges.web  # type: ignore[attr-defined]
    files = web._program._files
    files._root, files._stamp = built, None
    return stranger


async def test_every_address_of_a_page_gives_the_page(stranger: Browser) -> None:
    for address in ADDRESSES:
        told = await stranger.ask("GET", address)
        assert (told.status, told.header("content-type")) == (200, "text/html; charset=utf-8"), address
        assert told.body.startswith(b"<!doctype html><title>one</title>")
        assert told.header("cache-control") == "no-store"
    assert (await stranger.ask("HEAD", "/approvals/3")).status == 200


def test_every_screen_of_the_front_end_has_an_address() -> None:
    routes = (ROOT / "src/hyperhive/web/frontend/src/app/routes.ts").read_text()
    screens = re.findall(r'pattern: "([^"]+)"', routes)
    assert len(screens) > 15
    known = {re.sub(r"\{\w+:\w+\}", "*", page) for page in PAGES}
    assert {re.sub(r":\w+", "*", screen) for screen in screens} <= known


async def test_an_unknown_address_is_a_page_for_people_and_a_problem_for_programs(stranger: Browser) -> None:
    await stranger.ask("GET", "/")
    page = await stranger.ask("GET", "/no/such", change={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status, page.header("content-type")) == (404, "text/html; charset=utf-8")
    assert b"<title>one</title>" in page.body
    told = await stranger.ask("GET", "/no/such", change={"Accept": "*/*"})
    assert (told.status, told.json["code"]) == (404, "not_found")


async def test_files_with_their_hash_in_their_name_are_kept_for_good_and_sent_packed(
    stranger: Browser,
) -> None:
    await stranger.ask("GET", "/")
    plain = await stranger.ask("GET", "/assets/main-1a2b.js")
    assert (plain.status, plain.header("content-type")) == (200, "text/javascript; charset=utf-8")
    assert plain.header("cache-control") == "public, max-age=31536000, immutable"
    packed = await stranger.ask("GET", "/assets/main-1a2b.js", change={"Accept-Encoding": "gzip, br"})
    assert packed.header("content-encoding") == "gzip"
    assert packed.header("vary") == "accept-encoding"
    assert len(packed.body) < len(plain.body) / 10
    icon = await stranger.ask("GET", "/favicon.svg")
    assert (icon.status, icon.header("content-type")) == (200, "image/svg+xml")


async def test_no_path_leads_to_another_file(stranger: Browser) -> None:
    await stranger.ask("GET", "/")
    for path in (
        "/notes.md", "/assets/link.js", "/assets/../index.html", "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets//etc/passwd", "/..%2fapp.py", "/assets/", "/assets/main-1a2b.js/", "/app.py", "/.gitignore",
    ):  # fmt: skip
        told = await stranger.ask("GET", path)
        assert told.status == 404 or told.body.startswith((b"let a", b"<!doctype")), (path, told)
        assert b"root:" not in told.body


async def test_every_answer_says_what_the_browser_may_do_with_it(stranger: Browser) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/assets/main-1a2b.js"),
        ("GET", "/api/state"),
        ("POST", "/none"),
    ):
        told = await stranger.ask(method, path, {})
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in (told.header("content-security-policy") or "").split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe-inline" not in " ".join(v for k, v in policy.items() if k != "style-src-attr")
        assert "unsafe-eval" not in str(policy)
        assert told.header("x-content-type-options") == "nosniff"
        assert told.header("referrer-policy") == "no-referrer"
        assert told.header("server") is None
    bad = await stranger.ask("GET", "/", change={"Host": "evil.example"})
    assert bad.header("content-security-policy")


async def test_what_is_built_while_the_hive_runs_is_what_is_shown(stranger: Browser, built: Path) -> None:
    assert b"<title>one</title>" in (await stranger.ask("GET", "/")).body
    (built / "index.html").write_text("<title>two</title>")
    assert (await stranger.ask("GET", "/stats")).body == b"<title>two</title>"


async def test_where_nothing_was_built_the_page_says_how(tmp_path: Path) -> None:
    files = StaticFiles(tmp_path / "none")
    await files.refresh()
    assert files.index.body == NOT_BUILT
    assert b"<script" not in NOT_BUILT
    assert b"style" not in NOT_BUILT
