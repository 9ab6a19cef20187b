"""The forge gets main and all tags of every applied repo; nothing waits for a missing one, and its lag is shown."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from config_repos import ALICE, paths_at, plain_repos
from forge_server import BASIC, TOKEN, ForgeServer, forge_server
from hyperhive.config import ForgeSetting
from hyperhive.lifecycle.repos import Repos
from hyperhive.mirror import Mirror
from hyperhive.names import AgentName
from hyperhive.testing.clock import FakeClock

pytestmark = pytest.mark.needs("git")

BOB = AgentName("bob")
SECRETS = (TOKEN.encode(), BASIC.removeprefix("Basic ").encode())
"""The token, and as a push sends it."""


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[ForgeServer]:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge") as server:
        yield server


class World:
    """A hive's repos and their mirror."""

    def __init__(self, tmp_path: Path, forge: ForgeServer) -> None:
        self.paths = paths_at(tmp_path)
        self.paths.make_agent(BOB)
        self.repos: Repos = plain_repos(self.paths)
        self.clock = FakeClock()
        token = tmp_path / "token"
        token.write_text(f"{TOKEN}\n")
        self.setting: ForgeSetting | None = ForgeSetting(url=forge.url, user="hive", token_file=str(token))
        self.agents = [ALICE]
        self.mirror = Mirror(
            self.repos, setting=lambda: self.setting, agents=lambda: self.agents, clock=self.clock
        )
        self.repos.changed = self.mirror.touch

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.mirror.run)
            yield
            group.cancel_scope.cancel()

    async def until(self, behind: list[AgentName], *, failed: bool = False) -> None:
        """Returns when the mirror lacks something of exactly these."""
        with anyio.fail_after(40):
            while True:
                now = self.mirror.behind()
                if [one.agent for one in now] == behind and all(bool(one.error) == failed for one in now):
                    return
                await anyio.wait_all_tasks_blocked()


@pytest.fixture
def world(tmp_path: Path, forge: ForgeServer) -> World:
    return World(tmp_path, forge)


async def refs(forge: ForgeServer, name: str) -> dict[str, str]:
    return await anyio.to_thread.run_sync(forge.refs, name)


async def local(world: World, agent: AgentName) -> dict[str, str]:
    repo = world.paths.applied_repo(agent)
    done = await anyio.run_process(["git", f"--git-dir={repo}", "show-ref"])
    return {line.split()[1]: line.split()[0] for line in done.stdout.decode().splitlines()}


async def test_at_start_and_after_each_change_main_and_all_tags_are_there(
    world: World, forge: ForgeServer
) -> None:
    await world.repos.ensure(ALICE)
    async with world.running():
        await world.until([])
        assert await refs(forge, "agent-configs/alice") == await local(world, ALICE)
        main = await world.repos.main(ALICE)
        await world.repos.tag(ALICE, "proposal/1", main)
        await world.repos.tag(ALICE, "denied/1", main, "no, because")
        await world.until([])
        assert await refs(forge, "agent-configs/alice") == await local(world, ALICE)
        assert "refs/tags/denied/1" in await refs(forge, "agent-configs/alice")
    org, repo = forge.made
    assert org["visibility"] == "private"
    assert repo["private"] is True


async def test_a_missing_forge_is_shown_and_caught_up_with_when_it_is_back(
    world: World, forge: ForgeServer
) -> None:
    forge.down = True
    async with world.running():
        await world.repos.ensure(ALICE)  # nothing waits for the forge
        await world.until([ALICE], failed=True)
        [caution] = world.mirror.cautions()
        assert (
            caution
            == "the forge is behind with alice: the forge answered 503 when it was asked what there is"
        )
        forge.down = False
        await world.clock.until_sleepers(1)
        await world.clock.advance(31)
        await world.until([])
        assert world.mirror.cautions() == []
        assert await refs(forge, "agent-configs/alice") == await local(world, ALICE)


async def test_another_history_on_the_forge_is_not_overwritten(world: World, forge: ForgeServer) -> None:
    await world.repos.ensure(ALICE)
    async with world.running():
        await world.until([])
        other = await anyio.to_thread.run_sync(forge.rewrite, "agent-configs/alice")
        await world.repos.tag(ALICE, "proposal/1", await world.repos.main(ALICE))
        await world.until([ALICE], failed=True)
    assert (await refs(forge, "agent-configs/alice"))["refs/heads/main"] == other


async def test_one_refused_agent_does_not_hold_up_the_others(world: World, forge: ForgeServer) -> None:
    world.agents = [ALICE, BOB]
    await world.repos.ensure(ALICE)
    await world.repos.ensure(BOB)
    forge.orgs.add("agent-configs")
    await anyio.to_thread.run_sync(forge.spoil, "agent-configs/alice")
    async with world.running():
        await world.until([ALICE], failed=True)
        assert await refs(forge, "agent-configs/bob") == await local(world, BOB)


def command_lines() -> list[bytes]:
    """What `ps` would show of every process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(place.read_bytes())
    return found


async def test_while_a_slow_forge_takes_its_time_the_repo_can_be_worked_on(
    world: World, forge: ForgeServer
) -> None:
    await world.repos.ensure(ALICE)
    forge.open.clear()
    try:
        async with world.running():
            with anyio.fail_after(20):
                while not any("git-receive-pack" in one for one in forge.asked):  # noqa: ASYNC110 - the server is in a thread
                    await anyio.sleep(0.01)
                await world.repos.tag(ALICE, "proposal/1", await world.repos.main(ALICE))
            shown = await anyio.to_thread.run_sync(command_lines)
            assert any(b"git-remote-http" in line for line in shown)
            assert not any(secret in line for secret in SECRETS for line in shown)
            forge.open.set()
            await world.until([])
            assert await refs(forge, "agent-configs/alice") == await local(world, ALICE)
    finally:
        forge.open.set()


async def test_a_forge_that_comes_into_the_configuration_or_is_put_right_there_gets_everything_at_once(
    world: World, forge: ForgeServer
) -> None:
    good, world.setting = world.setting, None
    world.agents = [ALICE, BOB]
    await world.repos.ensure(ALICE)
    await world.repos.ensure(BOB)
    async with world.running():
        await anyio.wait_all_tasks_blocked()
        assert good is not None
        world.setting = ForgeSetting(url="http://127.0.0.1:1", user="hive", token_file=good.token_file)
        world.mirror.reconsider()
        await world.until([ALICE, BOB], failed=True)
        world.setting = good
        world.mirror.reconsider()
        await world.until([])
        for agent in (ALICE, BOB):
            assert await refs(forge, f"agent-configs/{agent}") == await local(world, agent)


async def test_an_agent_without_a_repo_owes_nothing_and_gets_none_there(
    world: World, forge: ForgeServer
) -> None:
    world.mirror.touch(ALICE)
    async with world.running():
        await world.until([])
    assert world.mirror.cautions() == []
    assert forge.made == []


async def test_the_token_is_in_no_message_remote_or_log_whichever_way_a_push_fails(
    world: World, tmp_path: Path, forge: ForgeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await world.repos.ensure(ALICE)
    assert world.setting is not None
    good = world.setting
    wrong = tmp_path / "wrong"
    await anyio.Path(wrong).write_text(f"{TOKEN}-not\n")
    said = []
    for setting in (
        good,
        ForgeSetting(url=good.url, user="hive", token_file=str(wrong)),
        ForgeSetting(url=good.url, user="hive", token_file=str(tmp_path / "none")),
        ForgeSetting(url="http://127.0.0.1:1", user="hive", token_file=good.token_file),
        ForgeSetting(url=f"{good.url}/deeper", user="hive", token_file=good.token_file),
    ):
        world.setting = setting
        forge.down = setting is good
        world.mirror = Mirror(
            world.repos, setting=lambda: world.setting, agents=lambda: [ALICE], clock=world.clock
        )
        async with world.running():
            await world.until([ALICE], failed=True)
            said += world.mirror.cautions()
        forge.down = False
    world.setting = good
    with pytest.raises(Exception, match="git push failed") as refused:
        await world.repos.push(ALICE, f"{good.url}/agent-configs/none.git", f"Basic {TOKEN}")
    said.append(str(refused.value))
    assert len(said) == 6
    everything = "\n".join([*said, caplog.text, *forge.asked]).encode()
    assert not any(secret in everything for secret in SECRETS)
    async for place in anyio.Path(world.paths.state_dir).rglob("*"):
        if await place.is_file():
            content = await place.read_bytes()
            assert not any(secret in content for secret in SECRETS), place
