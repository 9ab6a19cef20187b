"""Claims about driving the CLI's own login: against the real CLI as far as it goes without an account, and against a
scripted login program for what comes after."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.background import Background
from hyperhive.config import AgentConfig
from hyperhive.errors import NotFound
from hyperhive.harness.login import SESSION_SECONDS, AuthStatus, LoginCommand, LoginDriver
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.names import parse_agent_name
from hyperhive.paths import Paths
from hyperhive.ports import Launcher
from hyperhive.testing import scripted_auth
from hyperhive.testing.clock import FakeClock
from parts import CLEAN_ENV
from scripted_login import SCRIPTED_LOGIN

ALICE = parse_agent_name("alice")


class Told:
    """What the driver told its owner."""

    def __init__(self) -> None:
        self.changes = 0
        self.landed = anyio.Event()

    def changed(self) -> None:
        self.changes += 1


def laid_out(tmp_path: Path) -> Paths:
    paths = Paths.of(tmp_path / "state", tmp_path / "run")
    paths.make_hive()
    paths.make_agent(ALICE)
    return paths


@asynccontextmanager
async def driver(
    tmp_path: Path, program: tuple[str, ...]
) -> AsyncIterator[tuple[LoginDriver, Told, FakeClock]]:
    paths = await anyio.to_thread.run_sync(laid_out, tmp_path)
    runtime = ProcessRuntime(paths, {})
    await runtime.check()
    launcher: Launcher = runtime.launcher(
        ALICE, mounts=(), limits=ResourceLimits.of(AgentConfig().limits), network="host"
    )
    environment = CLEAN_ENV | {
        "HOME": launcher.box.state,
        "CLAUDE_CONFIG_DIR": launcher.box.claude,
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }

    async def command() -> LoginCommand:
        return LoginCommand(program=program, environment=environment)

    told, clock = Told(), FakeClock()
    background = await Background("login test").start()
    try:
        yield (
            LoginDriver(
                launcher,
                command,
                clock=clock,
                spawn=background.spawn,
                on_change=told.changed,
                on_landed=told.landed.set,
            ),
            told,
            clock,
        )
    finally:
        await background.aclose()
        await runtime.aclose()


def scripted(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "login.py"
    path.write_text(SCRIPTED_LOGIN)
    return (sys.executable, str(path))


async def test_a_login_gives_its_url_whole_takes_the_code_and_lands(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, told, _):
        found = await login.probe()
        assert found is not None
        assert not found.logged_in
        session = await login.start()
        assert session.url == "https://login.example/authorize?code=true&state=x"
        assert login.active
        session = await login.code("good#code")
        with anyio.fail_after(20):
            await told.landed.wait()
            while not (ended := login.session) or not ended.finished:
                await login._moved.wait()
        assert login.session is not None
        assert (login.session.finished, login.session.exit_note) == (True, None)
        assert "Login successful." in login.session.output
        found = await login.probe()
        assert found is not None
        assert (found.logged_in, found.auth_method) == (True, "claude.ai")


async def test_what_is_shown_holds_neither_the_code_nor_control_characters(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, told, _):
        await login.start()
        session = await login.code("wrong-code-canary")
        assert "That doesn't look like the full code." in session.output
        assert "canary" not in session.output
        assert "\x1b" not in session.output
        assert login.active, "another try is possible"
        await login.code(" good#code\n")
        with anyio.fail_after(20):
            await told.landed.wait()


async def test_starting_twice_gives_the_login_that_runs(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, told, _):
        first = await login.start()
        changes = told.changes
        assert await login.start() == first
        assert told.changes == changes


async def test_a_code_without_a_login_is_refused(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, _, _clock):
        for ask in (login.code("x"), login.cancel()):
            with pytest.raises(NotFound):
                await ask


async def test_a_cancelled_login_ends_its_process_and_another_can_start(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, told, _):
        await login.start()
        session = await login.cancel()
        assert (session.finished, session.exit_note) == (True, "cancelled")
        with pytest.raises(NotFound):
            await login.code("x")
        again = await login.start()
        assert again.url is not None
        assert not again.finished
        assert not told.landed.is_set()


async def test_the_scripted_cli_is_logged_in_as_the_real_one_is(
    tmp_path: Path, scripted_cli: AgentCli
) -> None:
    async with driver(tmp_path, (str(scripted_cli.path),)) as (login, told, _):
        found = await login.probe()
        assert found == AuthStatus(logged_in=False, auth_method="none")
        with anyio.fail_after(15):
            session = await login.start()
            assert session.url == scripted_auth.URL
            assert login.active
            session = await login.code("half-a-code")
            assert "doesn't look like the full code" in session.output
            await login.code("good#code")
            await told.landed.wait()
        assert await login.probe() == AuthStatus(logged_in=True, auth_method="claude.ai")


async def test_a_login_nobody_finishes_is_ended_after_a_while(tmp_path: Path) -> None:
    async with driver(tmp_path, scripted(tmp_path)) as (login, _, clock):
        await login.start()
        await clock.advance(SESSION_SECONDS)
        with anyio.fail_after(20):
            while login.active:
                await login._moved.wait()
        assert login.session is not None
        assert "without success" in str(login.session.exit_note)


async def test_a_cli_that_cannot_be_started_is_an_ended_login_that_says_why(tmp_path: Path) -> None:
    async with driver(tmp_path, (str(tmp_path / "nothing"),)) as (login, told, _):
        session = await login.start()
        assert session.finished
        assert "could not be started" in str(session.exit_note)
        assert not told.landed.is_set()
        assert await login.probe() is None


@pytest.mark.needs("claude", "claude-2.1.200")
@pytest.mark.parametrize("fixture", ["claude_cli", "claude_cli_200"])
async def test_the_real_cli_prints_a_url_and_refuses_half_a_code(
    tmp_path: Path, request: pytest.FixtureRequest, fixture: str
) -> None:
    cli: Path = request.getfixturevalue(fixture)
    async with driver(tmp_path, (str(cli),)) as (login, told, _):
        found = await login.probe()
        assert found is not None
        assert not found.logged_in
        session = await login.start()
        assert session.url is not None
        assert session.url.startswith("https://claude.com/")
        assert "state=" in session.url
        session = await login.cancel()
        assert session.finished
        assert not told.landed.is_set()


def test_an_auth_status_with_more_fields_than_known_is_read() -> None:
    text = json.dumps({"loggedIn": True, "authMethod": "claude.ai", "subscriptionType": "max"})
    assert msgspec.json.decode(text, type=AuthStatus).logged_in
