"""A name that is not ours is answered nothing (DNS rebinding); which names are ours is the operator's to say."""

from pathlib import Path

from hyperhive.web.guards import allowed_hosts
from hyperhive.web.listening import listen
from web_client import Browser, Served, serving


async def test_every_route_refuses_a_name_that_is_not_ours(served: Served, browser: Browser) -> None:
    port = served.port
    wrong = [
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "localhost",
        f"localhost:{port + 1}",
        f"localhost:{port}.evil.example",
        f"user@localhost:{port}",
        "",
        None,
    ]
    for method, path, _ in await served.routes():
        for name in wrong if path == "/api/state" else wrong[:2]:
            change = {"Host": name, "X-Forwarded-Host": f"localhost:{port}"}
            if name is not None:
                change["Origin"] = f"http://{name}"
            told = await browser.ask(method, path, {}, change=change)
            assert told.status in ({421, 400} if name is None else {421}), (method, path, name, told)


async def test_two_names_are_none(browser: Browser) -> None:
    told = await browser.ask("GET", "/api/state", change={"host": "evil.example"})
    assert (told.status, told.json["code"]) == (421, "bad_host")


async def test_loopbacks_own_names_are_ours_on_both_of_its_addresses(
    served: Served, browser: Browser
) -> None:
    for name in (f"127.0.0.1:{served.port}", f"[::1]:{served.port}", f"LOCALHOST:{served.port}"):
        change = {"Host": name, "Origin": f"http://{name}"}
        told = await browser.ask("POST", "/api/request", {"cmd": "list"}, change=change)
        assert told.status == 200, (name, told)


async def test_the_operator_may_name_more(home: Path) -> None:
    async with serving(home, 'allowed_hosts = ["hive.my-net.ts.net", "localhost:8080"]\n') as served:
        browser = await served.browser()
        for name, scheme in (("hive.my-net.ts.net", "https"), ("localhost:8080", "http")):
            change = {"Host": name, "Origin": f"{scheme}://{name}"}
            told = await browser.ask("POST", "/api/request", {"cmd": "list"}, change=change)
            assert told.status == 200, (name, told)
        # Another machine by plain http: browsers leave Sec-Fetch-Site out there.
        change = {"Host": "hive.my-net.ts.net", "Origin": "http://hive.my-net.ts.net"}
        told = await browser.ask(
            "POST", "/api/request", {"cmd": "list"}, change={**change, "Sec-Fetch-Site": None}
        )
        assert told.status == 200, told
        (home / "hive.toml").write_text("")
        await served.hive.reload()
        told = await browser.ask("POST", "/api/request", {"cmd": "list"}, change=change)
        assert told.status == 421


def test_where_we_listen_is_one_of_our_names() -> None:
    assert allowed_hosts("127.0.0.1", 7000, ()) == {"localhost:7000", "127.0.0.1:7000", "[::1]:7000"}
    assert "192.168.1.5:7000" in allowed_hosts("192.168.1.5", 7000, ())
    assert "[fd00::5]:7000" in allowed_hosts("fd00::5", 7000, ())
    assert not [name for name in allowed_hosts("0.0.0.0", 7000, ()) if name.startswith("0.")]
    assert "localhost" in allowed_hosts("127.0.0.1", 80, ())


def test_localhost_is_ours_whole_or_is_not_what_the_link_says() -> None:
    first = listen("127.0.0.1", 0)
    try:
        assert {sock.getsockname()[0] for sock in first.sockets} == {"127.0.0.1", "::1"}
        assert {sock.getsockname()[1] for sock in first.sockets} == {first.port}
        assert first.name == f"localhost:{first.port}"
        first.sockets[0].close()  # now somebody else has the other half
        half = listen("127.0.0.1", first.port)
        assert (half.name, len(half.sockets)) == (f"127.0.0.1:{first.port}", 1)
        half.sockets[0].close()
    finally:
        for sock in first.sockets:
            sock.close()
