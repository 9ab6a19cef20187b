"""Agents' lives in a whole hive: updates, what the manager may, destroy and purge, lost databases, older layouts."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import msgspec
import pytest

import hyperhive
from config_repos import Desk, shell_git
from hyperhive.accounts import OWN_LOGIN
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig
from hyperhive.errors import Forbidden, NotAvailable, WorldError
from hyperhive.host import Hive
from hyperhive.lifecycle import disk
from hyperhive.lifecycle.removal import remove_tree
from hyperhive.mcp import tools
from hyperhive.names import MANAGER, AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, HiveStatus, Ok, Reply

pytestmark = pytest.mark.needs("git")
ALICE = AgentName("alice")


@pytest.fixture
def config(config: HiveConfig) -> HiveConfig:
    """Where this test's hive lives; a new config need not have been up for long."""
    return msgspec.structs.replace(config, file=msgspec.structs.replace(config.file, up_seconds=0.0))


@asynccontextmanager
async def life(config: HiveConfig, environ: dict[str, str]) -> AsyncIterator[tuple[Hive, RemoteHive]]:
    """One life of a hive, and its operator."""
    async with Hive.open(config=config, environ=environ) as hive, connect(hive.paths.run_dir) as operator:
        yield hive, operator


async def by_manager(hive: Hive, request: r.Request) -> Reply:
    """As it comes by the manager's tools socket."""
    actor = Actor(name=MANAGER, role="manager", channel="tools")
    return (await hive.dispatcher.dispatch(actor, request)).reply


async def until(true: Callable[[], bool], hive: Hive) -> None:
    """Looks after each event of the hive's."""
    async with hive.bus.subscribe() as events:
        with anyio.fail_after(20):
            while not true():
                with anyio.move_on_after(0.05):  # not everything that is waited for is an event
                    await anext(aiter(events))


async def status(operator: RemoteHive) -> HiveStatus:
    reply = await operator.request(r.Status())
    assert isinstance(reply, HiveStatus)
    return reply


async def deploy(hive: Hive, text: str) -> int:
    """Proposes, approves and deploys an agent.toml of alice's; gives the number."""
    repo = hive.paths.proposed_config(ALICE)
    await until((hive.paths.applied_repo(ALICE) / "HEAD").exists, hive)
    await hive.config_code.deployer.provision(ALICE)

    def commit() -> str:
        desk = Desk(repo)
        desk.git("fetch", "-q", str(hive.paths.applied_repo(ALICE)), "main")
        desk.git("reset", "-q", "--hard", "FETCH_HEAD")
        return desk.commit({"agent.toml": text})

    sha = await anyio.to_thread.run_sync(commit)
    asked = await by_manager(hive, r.RequestApplyCommit(agent="alice", commit_ref=sha))
    assert isinstance(asked, Ok), asked
    assert asked.id is not None
    seen = (await hive.approvals.show(asked.id)).approval
    await hive.approvals.approve(asked.id, sha, seen.diff_sha256)
    await until(lambda: hive.config_code.deployed_sha("alice") == sha, hive)
    await hive.lifecycle._actions.wait(ALICE)
    return asked.id


# --- updates ----------------------------------------------------------------------------------------------------------


async def test_a_hive_of_another_revision_builds_its_agents_anew_by_itself(
    config: HiveConfig, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(config, environ) as (hive, operator):
        await operator.lifecycle.spawn("alice")
        await until(lambda: hive.config_code.deployed_sha("alice") is not None, hive)
        assert not hive.lifecycle.view("alice").needs_update
    monkeypatch.setattr(hyperhive, "__version__", "9.9.9")
    async with life(config, environ) as (hive, _):
        await until(
            lambda: not any(hive.lifecycle.view(n).needs_update for n in hive.lifecycle.names()), hive
        )
        assert hive.lifecycle.view("alice").running


async def test_where_that_is_off_the_manager_is_told_and_the_operator_updates_by_hand(
    config: HiveConfig, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(config, environ) as (hive, operator):
        await operator.lifecycle.spawn("alice")
        await until(lambda: len(hive.config_code.configs.agents()) == 2, hive)
    monkeypatch.setattr(hyperhive, "__version__", "9.9.9")
    config = msgspec.structs.replace(config, file=msgspec.structs.replace(config.file, auto_update=False))
    async with life(config, environ) as (hive, operator):
        views = {detail.view.name: detail.view for detail in (await status(operator)).agents}
        assert {name: view.needs_update for name, view in views.items()} == {"manager": True, "alice": True}

        async def told(name: str) -> list[object]:
            rows = await hive.broker.recent(name, 20)
            return [row.body for row in rows if "needs_update" in row.body]

        with anyio.fail_after(20):
            while not (await told("manager") and await told("operator")):
                await anyio.lowlevel.checkpoint()
        assert json.loads(str((await told("manager"))[0])) == {"event": "needs_update", "agent": "alice"}

        refused = await by_manager(hive, r.Update(name="manager"))
        assert isinstance(refused, Err)
        assert refused.code == Forbidden.code  # it would wait for the end of its own turn
        assert isinstance(await by_manager(hive, r.Update(name="alice")), Ok)
        assert not hive.lifecycle.view("alice").needs_update
        done = await operator.request(r.UpdateAll())
        assert isinstance(done, Ok)
        assert done.note == "built anew: manager"
        assert not hive.lifecycle.view("manager").needs_update
        idle = await operator.request(r.UpdateAll())
        assert isinstance(idle, Ok)
        assert idle.note == "no agent needs an update"
        with pytest.raises(NotAvailable, match="no inputs"):
            await operator.request(r.MetaUpdate(inputs=["nixpkgs"]))


# --- what the manager may ---------------------------------------------------------------------------------------------


async def test_the_manager_ends_others_and_never_itself_and_starts_nobody_whom_the_operator_stopped(
    hive: Hive, operator: RemoteHive
) -> None:
    served = {
        tool.name
        for tool in tools.served(hive.dispatcher, Actor(name=MANAGER, role="manager", channel="tools"))
    }
    others = {
        tool.name for tool in tools.served(hive.dispatcher, Actor(name=ALICE, role="agent", channel="tools"))
    }
    assert served - others == {"request_spawn", "kill", "start", "restart", "update", "request_apply_commit"}
    await operator.lifecycle.spawn("alice")
    for request in (r.Kill(name="manager"), r.Restart(name="manager"), r.Kill(name="manager", now=True)):
        refused = await by_manager(hive, request)
        assert isinstance(refused, Err)
        assert (refused.code, "itself" in refused.message) == (Forbidden.code, True)
    assert hive.lifecycle.view("manager").running
    assert isinstance(await by_manager(hive, r.Kill(name="alice")), Ok)
    assert isinstance(await by_manager(hive, r.Start(name="alice")), Ok)
    await operator.lifecycle.stop("alice")
    for start in (r.Start(name="alice"), r.Restart(name="alice")):
        refused = await by_manager(hive, start)
        assert isinstance(refused, Err)
        assert refused.code == Forbidden.code
    assert not hive.lifecycle.view("alice").running
    for forbidden in (r.Spawn(name="x"), r.Destroy(name="alice"), r.Rebuild(name="alice"), r.UpdateAll(),
                      r.Restore(name="alice"), r.MetaUpdate(inputs=[])):  # fmt: skip
        refused = await by_manager(hive, forbidden)
        assert isinstance(refused, Err), forbidden
        assert refused.code == Forbidden.code


# --- destroy, purge, restore ------------------------------------------------------------------------------------------


async def test_destroy_leaves_the_state_and_nothing_of_the_runtime_and_a_purge_says_what_it_leaves(
    hive: Hive, operator: RemoteHive
) -> None:
    await operator.lifecycle.spawn("alice")
    paths = hive.paths
    assert paths.tools_dir(ALICE).is_dir()
    (paths.agent_state(ALICE) / "notes").write_text("mine")
    await operator.lifecycle.destroy("alice")
    assert not paths.tools_dir(ALICE).exists()
    assert not paths.harness_dir(ALICE).exists()
    assert (paths.agent_state(ALICE) / "notes").read_text() == "mine"
    assert (await status(operator)).hive.tombstones == ("alice",)
    await operator.request(r.Restore(name="alice"))
    assert paths.tools_socket(ALICE).exists()
    assert (await status(operator)).hive.tombstones == ()
    login = hive.accounts.state(f"alice{OWN_LOGIN}")
    login.login_refused(login.generation)
    gone = await operator.request(r.Destroy(name="alice", purge=True))
    assert not login.needs_login
    assert isinstance(gone, Ok)
    assert "forge" in (gone.note or "")
    walks = (
        os.walk(top) for top in (paths.state_dir, paths.run_dir)
    )  # the manager's repos are still being made
    names = {name for walk in walks for _, inner, files in walk for name in (*inner, *files)}
    assert not [name for name in names if "alice" in name]
    lock = json.loads((paths.meta / "lock.json").read_text()) if (paths.meta / "lock.json").exists() else {}
    assert "alice" not in lock


# --- a disk that is full ----------------------------------------------------------------------------------------------


async def test_a_low_disk_takes_no_new_agent_and_no_deploy_and_the_approval_waits(
    hive: Hive, operator: RemoteHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await hive.approvals.request_spawn("bob", by="manager")
    monkeypatch.setattr(hive._disk, "_space", lambda _: (100 << 30, 1 << 30))
    for attempt in (operator.lifecycle.spawn("alice"), operator.request(r.Approve(id=asked))):
        with pytest.raises(WorldError, match="the disk is low"):
            await attempt
    assert [one.id for one in await hive.approvals.pending()] == [asked]
    assert [w for w in (await status(operator)).hive.warnings if "the disk is low" in w]
    monkeypatch.setattr(hive._disk, "_space", disk._space)
    await operator.request(r.Approve(id=asked))
    await until(lambda: hive.lifecycle.is_alive("bob"), hive)


async def test_a_rebuild_puts_right_what_drifted_and_says_what_it_cannot(
    hive: Hive, operator: RemoteHive
) -> None:
    await operator.lifecycle.spawn("alice")
    number = await deploy(hive, 'prompt = "one"\n')
    paths = hive.paths
    applied = paths.applied_repo(ALICE)
    saved = applied.with_name("saved")
    sha = hive.config_code.deployed_sha("alice")

    def damage() -> None:
        """What somebody does by hand, by mistake."""
        for place in (paths.proposed / "alice", paths.tools_dir(ALICE), paths.meta / "lock.json"):
            remove_tree(place, [])
        shell_git(applied, "tag", "-d", f"deployed/{number}")
        shell_git(applied, "update-ref", "refs/heads/main", "deployed/0")

    await anyio.to_thread.run_sync(damage)
    await operator.request(r.Rebuild(name="alice"))
    assert paths.tools_socket(ALICE).is_socket()
    assert (paths.proposed_config(ALICE) / ".git").is_dir()
    assert json.loads((paths.meta / "lock.json").read_text())["alice"] == sha
    tags = await hive.config_code.repos.tags(ALICE)
    assert (tags[f"deployed/{number}"], await hive.config_code.repos.main(ALICE)) == (sha, sha)

    await anyio.to_thread.run_sync(applied.rename, saved)
    with pytest.raises(WorldError, match="does not hold what is deployed"):
        await operator.request(r.Rebuild(name="alice"))
    assert hive.lifecycle.view("alice").running
    assert hive.config.agent("alice").prompt == "one"

    def put_back() -> None:
        """As from the copy on a forge."""
        remove_tree(applied, [])
        shell_git(saved, "clone", "-q", "--mirror", str(saved), str(applied))

    await anyio.to_thread.run_sync(put_back)
    await operator.request(r.Rebuild(name="alice"))


# --- what is left on disk ---------------------------------------------------------------------------------------------


async def test_a_hive_whose_database_is_lost_knows_its_agents_by_their_repos(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    """Redeploy after a host was set up anew: the repos alone say what each agent is, and was."""
    async with life(config, environ) as (hive, operator):
        await operator.lifecycle.spawn("alice")
        await operator.lifecycle.spawn("gone")
        await operator.lifecycle.destroy("gone")
        first = await deploy(hive, 'prompt = "one"\n')
        second = await deploy(hive, 'prompt = "two"\n')
        deployed = hive.config_code.deployed_sha("alice")
    for file in config.state_dir.glob("hive.sqlite*"):
        file.unlink()
    async with life(config, environ) as (hive, operator):
        shown = (await status(operator)).hive
        assert shown.tombstones == ("alice", "gone")  # who of them was to run nobody knows any more
        assert any("alice" in warning and "restore" in warning for warning in shown.warnings)
        await operator.request(r.Restore(name="alice"))
        assert hive.lifecycle.view("alice").deployed_sha == deployed
        assert hive.config.agent("alice").prompt == "two"
        assert not any("alice" in warning for warning in (await status(operator)).hive.warnings)
        history = [one.number for one in await hive.config_code.configs.history("alice")]
        assert history == [0, first, second]
        rolled = await hive.lifecycle.rollback("alice", first)
        assert rolled > second
        await until(lambda: hive.config.agent("alice").prompt == "one", hive)


async def test_an_older_layout_is_brought_along_once_and_its_agents_come_back_as_they_were(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    state = config.state_dir

    def older() -> str:
        applied, proposed = state / "applied/alice", state / "agents/alice/config"
        applied.mkdir(parents=True)
        shell_git(applied, "init", "-q", "-b", "main")
        Desk(applied).commit({"agent.toml": 'prompt = "of old"\n'})
        Desk(applied).git("tag", "deployed/0")
        proposed.parent.mkdir(parents=True)
        shell_git(state, "clone", "-q", str(applied), str(proposed))
        (state / "agents/alice/state").mkdir()
        (state / "agents/alice/state/notes").write_text("mine")
        return Desk(applied).git("rev-parse", "HEAD")

    sha = await anyio.to_thread.run_sync(older)
    async with life(config, environ) as (hive, operator):
        assert (await status(operator)).hive.tombstones == ("alice",)
        await operator.request(r.Restore(name="alice"))
        assert hive.lifecycle.view("alice").deployed_sha == sha
        assert hive.config.agent("alice").prompt == "of old"
        assert (hive.paths.agent_state(ALICE) / "notes").read_text() == "mine"
        await deploy(hive, 'prompt = "new"\n')
    assert (state / ".layout").is_file()
    assert not (state / "agents/alice/config").exists()
    before = [path for path in (state / "applied").iterdir() if path.name.startswith(".")]
    async with life(config, environ) as (hive, _):
        assert hive.config.agent("alice").prompt == "new"
        assert hive.lifecycle.view("alice").running
    assert before == [path for path in (state / "applied").iterdir() if path.name.startswith(".")] == []
