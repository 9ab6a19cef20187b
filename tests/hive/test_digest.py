"""What has happened since; and one agent's config in all its stands. In a whole hive of scripted agents."""

import anyio
import msgspec
import pytest

from hyperhive.client import RemoteHive
from hyperhive.config import parse_hive_file
from hyperhive.errors import NotFound
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import ApprovalResolved


async def test_a_digest_counts_what_happened_since_and_shows_the_newest_first(
    hive: Hive, operator: RemoteHive
) -> None:
    async def digest(since: int) -> p.DigestPage:
        reply = await operator.request(r.Digest(since=since))
        assert isinstance(reply, p.DigestPage)
        return reply

    start = hive.started_at
    await hive.lifecycle.spawn("alice")
    with anyio.fail_after(50):
        await operator.broker.send("operator", "alice", "[[say fine]]")
        await operator.broker.send("operator", "alice", "[[once a]][[exit 3]]")
        while (page := await digest(start)).finished < 2 or page.failed < 1:
            await hive.bus.next_published()
    asked = await hive.broker.questions.ask("alice", "Go on?")
    await operator.broker.questions.answer(asked, "yes, do")
    crash = '{"event":"container_crash","agent":"bob","note":"out of memory"}'
    await hive.broker.send("system", "manager", crash)
    await hive.broker.send("bob", "manager", f"I saw {crash}")
    wish = await operator.approvals.submit("carol", kind="spawn")
    await operator.approvals.deny(wish.id, "not now")
    page = await digest(start)
    [alice] = [one for one in page.agents if one.name == "alice"]
    assert sum(one.turns for one in page.agents) == page.finished + page.failed
    assert sum(one.failed for one in page.agents) == page.failed
    assert alice.failed == 1
    assert alice.turns >= 2
    assert sum(one.tokens for one in page.agents) == page.tokens
    assert alice.tokens > 0
    assert page.answered == 1
    assert page.messages >= 4
    items = {(item.kind, item.agent): item for item in page.items}
    assert items["answered", "alice"].text == "Go on? → yes, do"
    assert items["failed", "alice"].text == "crashed"
    assert items["crashed", "bob"].text == "out of memory"
    assert [item.kind for item in page.items].count("crashed") == 1, "a letter that quotes one is none"
    assert items["decided", "carol"].text == "denied by operator: not now"
    assert [item.at for item in page.items] == sorted((item.at for item in page.items), reverse=True)
    empty = await digest(start + 10**6)
    assert (empty.finished, empty.failed, empty.messages, empty.items) == (0, 0, 0, [])


@pytest.mark.needs("git")
async def test_a_config_is_shown_as_deployed_applied_proposed_and_in_force(
    hive: Hive, operator: RemoteHive
) -> None:
    await hive.lifecycle.spawn("alice")

    async def config(proposal: int | None = None) -> p.AgentConfigPage:
        reply = await operator.request(r.AgentConfig(name="alice", proposal=proposal))
        assert isinstance(reply, p.AgentConfigPage)
        return reply

    before = await config()
    assert before.effective["model"] == "sonnet"
    assert (before.proposed.sha, before.proposed.differs) == (None, False)
    await hive.config_code.deployer.provision(AgentName("alice"))
    place = hive.paths.proposed_config(AgentName("alice"))
    toml = 'model = "opus"\nnetwork = "host"\n[env]\nTOKEN = "abc"\n'
    await anyio.Path(place / "agent.toml").write_text(toml)
    await anyio.run_process(["git", "-C", str(place), "add", "-A"])
    identity = ["-c", "user.name=m", "-c", "user.email=m@example.org"]
    await anyio.run_process(["git", "-C", str(place), *identity, "commit", "-qm", "another model"])

    async def head() -> str:
        said = await anyio.run_process(["git", "-C", str(place), "rev-parse", "HEAD"])
        return said.stdout.decode().strip()

    sha = await head()
    wish = await hive.approvals.submit("alice", sha)
    asked = await config()
    assert (asked.proposed.sha, asked.proposed.approval, asked.proposed.differs) == (sha, wish.id, True)
    assert asked.deployed is None or asked.deployed.sha != sha
    await anyio.run_process(
        ["git", "-C", str(place), *identity, "commit", "-q", "--allow-empty", "-m", "more"]
    )
    later = await hive.approvals.submit("alice", await head())
    both = await config()
    assert [one.id for one in both.waiting] == [later.id, wish.id]
    assert both.proposed.approval == later.id
    first = await config(wish.id)
    assert (first.proposed.approval, first.proposed.sha, first.waiting) == (wish.id, sha, both.waiting)
    with pytest.raises(NotFound):
        await config(999)
    await operator.approvals.deny(later.id, "one at a time")
    assert (await config()).proposed.approval == wish.id, "what waits comes before what is newer"
    async with hive.bus.subscribe() as events:
        shown = await operator.approvals.show(wish.id)
        await operator.approvals.approve(wish.id, sha, shown.approval.diff_sha256)
        with anyio.fail_after(40):
            async for frame in events:
                if isinstance(getattr(frame, "event", None), ApprovalResolved):
                    break
    limited = parse_hive_file('[agents.alice]\nlimits = {network = ["none"]}')
    hive.config = msgspec.structs.replace(hive.config, file=limited)
    after = await config()
    assert after.deployed is not None
    assert after.applied is not None
    assert (after.deployed.sha, after.deployed.id, after.applied.sha) == (sha, wish.id, sha)
    files = {file.path: file.text for file in after.deployed.files}
    assert files["agent.toml"] == toml
    assert after.proposed.approval == later.id
    assert (await config(wish.id)).proposed.differs is False
    assert after.effective["model"] == "opus"
    assert after.effective["env"] == {"TOKEN": "(hidden)"}
    assert after.effective["network"] == "none"
    assert any("network" in cut for cut in after.cut)
    assert [one.id for one in after.deployments] == [wish.id, 0]
