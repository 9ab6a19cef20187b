"""Claims about accounts: stored privately and durably, never shown, and parked and released together."""

import stat
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.accounts import (
    Account,
    Accounts,
    AccountState,
    Secret,
    check_account_name,
    check_secret,
    guess_kind,
)
from hyperhive.errors import BadRequest, NotFound, StoreFailed

CANARY = "sk-ant-api03-canary-0123456789"


async def opened(tmp_path: Path, **environ: str) -> Accounts:
    return await Accounts.open(tmp_path / "accounts", environ)


async def test_an_account_is_still_there_after_a_restart_and_private_to_its_owner(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    await accounts.set("default", "key", Secret(CANARY))
    assert stat.S_IMODE((tmp_path / "accounts").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "accounts" / "default").stat().st_mode) == 0o600
    again = await opened(tmp_path)
    assert again.names() == ["default"]
    assert again.bind("alice").environment() == {"ANTHROPIC_API_KEY": CANARY}


async def test_a_token_reaches_the_cli_as_its_oauth_token(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    await accounts.set("work", "token", Secret("sk-ant-oat01-dummy"))
    assert accounts.bind("alice", "work").environment() == {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"}


async def test_no_text_form_of_anything_shows_a_secret(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    await accounts.set("default", "key", Secret(CANARY))
    bound = accounts.bind("alice")
    for thing in (Secret(CANARY), bound.account, bound, accounts, vars(bound)):
        assert "canary" not in f"{thing!r} {thing}"
    with pytest.raises(TypeError):
        msgspec.json.encode(bound.account)


async def test_a_faulty_account_file_is_named_without_its_content(tmp_path: Path) -> None:
    directory = tmp_path / "accounts"
    directory.mkdir()
    (directory / "default").write_text('{"kind":"key","secret":"' + CANARY)
    with pytest.raises(StoreFailed) as caught:
        await opened(tmp_path)
    assert "accounts/default" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_a_symlink_is_no_account(tmp_path: Path) -> None:
    directory = tmp_path / "accounts"
    directory.mkdir()
    (tmp_path / "elsewhere").write_text('{"kind":"key","secret":"x"}')
    (directory / "default").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFailed):
        await opened(tmp_path)


async def test_a_file_that_others_can_read_is_made_private_when_it_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "accounts"
    directory.mkdir()
    (directory / "default").write_text('{"kind":"key","secret":"x"}')
    (directory / "default").chmod(0o644)
    await opened(tmp_path)
    assert stat.S_IMODE((directory / "default").stat().st_mode) == 0o600


async def test_default_goes_before_the_environment_and_that_before_an_own_login(tmp_path: Path) -> None:
    bare = await opened(tmp_path)
    assert (bare.bind("alice").kind, bare.bind("alice").environment()) == ("login", {})
    assert bare.bind("alice").state is not bare.bind("bob").state
    env = await opened(tmp_path, ANTHROPIC_API_KEY="from-env")
    assert (env.bind("alice").name, env.bind("alice").kind) == ("env", "env")
    assert env.bind("alice").state is env.bind("bob").state
    await env.set("default", "key", Secret("stored"))
    assert env.bind("alice").environment() == {"ANTHROPIC_API_KEY": "stored"}


async def test_env_can_neither_be_stored_nor_removed(tmp_path: Path) -> None:
    accounts = await opened(tmp_path, CLAUDE_CODE_OAUTH_TOKEN="from-env")
    assert accounts.bind("alice").environment() == {"CLAUDE_CODE_OAUTH_TOKEN": "from-env"}
    with pytest.raises(BadRequest):
        await accounts.set("env", "key", Secret("x"))
    with pytest.raises(BadRequest):
        await accounts.remove("env")


async def test_a_removed_account_is_gone_from_disk_and_its_agents_need_a_login(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    await accounts.set("default", "key", Secret("x"))
    state = accounts.bind("alice").state
    await accounts.remove("default")
    assert not list((tmp_path / "accounts").iterdir())
    assert state.needs_login
    assert accounts.bind("alice", "default").kind == "login"
    with pytest.raises(NotFound):
        await accounts.remove("default")


async def test_a_named_account_that_does_not_exist_needs_a_login_until_it_is_stored(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    bound = accounts.bind("alice", "work")
    assert (bound.state.needs_login, bound.own_login, bound.environment()) == (True, False, {})
    await accounts.set("work", "key", Secret("x"))
    assert not accounts.bind("alice", "work").state.needs_login
    assert accounts.bind("alice", "work").environment() == {"ANTHROPIC_API_KEY": "x"}


async def test_a_store_that_fails_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "accounts").write_text("in the way")
    accounts = Accounts(tmp_path / "accounts", {})
    with pytest.raises(StoreFailed) as caught:
        await accounts.set("default", "key", Secret(CANARY))
    assert "canary" not in str(caught.value)
    assert accounts.names() == []


@pytest.mark.parametrize("name", ["", "Default", "../x", "a/b", "env", "a" * 64, "-a", "a\n"])
def test_a_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        check_account_name(name)


@pytest.mark.parametrize("text", ["", "  ", "two words", "line\nbreak", "ünicode", "x" * 4097])
def test_what_cannot_be_a_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_secret(text)
    assert not text.strip() or text not in str(caught.value)


def test_white_space_round_a_pasted_secret_is_dropped() -> None:
    assert check_secret(" sk-x\n").reveal() == "sk-x"


def test_setup_tokens_are_told_from_keys() -> None:
    assert guess_kind(Secret("sk-ant-oat01-x")) == "token"
    assert guess_kind(Secret("sk-ant-api03-x")) == "key"


def test_a_refusal_of_an_older_login_does_not_undo_a_newer_one() -> None:
    state = AccountState("default")
    started_under = state.generation
    state.login_landed()
    state.login_refused(started_under)
    assert not state.needs_login
    state.login_refused(state.generation)
    assert state.blocked_until(0) == float("inf")


def test_a_limit_ends_at_its_reset_time_or_with_a_new_login() -> None:
    state = AccountState("default")
    state.limit(100)
    state.limit(50)
    assert state.blocked_until(99) == 100
    assert state.blocked_until(100) is None
    state.limit(200)
    state.login_landed()
    assert state.blocked_until(150) is None


def test_agents_parked_together_come_back_one_after_the_other_the_most_urgent_first() -> None:
    accounts = Accounts(None, {})
    urgency = {"alice": (0, 7), "bob": (-2, 9), "carol": (0, 3)}
    accounts.order = urgency.__getitem__
    line = accounts.state("default").line
    for agent in urgency:
        line.park(agent)
    assert [line.wait(agent, 100.0) for agent in ("bob", "carol", "alice", "dave")] == [0, 2, 4, 0]
    assert line.wait("carol", 102.0) == 0
    line.park("alice")  # the limit is hit again: its time is void
    assert line.wait("alice", 102.0) == 4  # after those who were given theirs before


async def test_every_change_is_told_once_to_waiters_and_listeners(tmp_path: Path) -> None:
    accounts = await opened(tmp_path)
    seen: list[tuple[str, bool]] = []
    stop = accounts.subscribe(lambda state: seen.append((state.name, state.needs_login)))
    state = accounts.bind("alice").state
    woken = anyio.Event()

    async def wait() -> None:
        await state.changed()
        woken.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        state.login_refused(0)
        state.login_refused(0)
        with anyio.fail_after(5):
            await woken.wait()
    assert seen == [("alice (own login)", True)]
    stop()
    state.login_landed()
    assert len(seen) == 1


def test_an_account_shows_its_kind_not_its_secret() -> None:
    assert repr(Account(name="a", kind="key", secret=Secret(CANARY))) == (
        "Account(name='a', kind='key', secret=Secret(•••))"
    )
