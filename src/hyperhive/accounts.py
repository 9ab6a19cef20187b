"""Accounts: the keys and tokens that agents' CLIs run under, and what is known of each one's health.

An account is one file `STATE/accounts/NAME` (0600 in a 0700 directory), written atomically, or `env`: what stood in
the operator's environment when the hive started. An agent without an account logs in by itself and is an account of
its own. Login and usage limits belong to the account: one refusal parks all its agents, one login brings them back.
Nothing here prints, logs or returns a secret but `Secret.reveal` and `BoundAccount.environment`. Refresh tokens of a
CLI's own login are never read, let alone copied.
"""

import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import anyio
import anyio.to_thread
import msgspec

from hyperhive.errors import BadRequest, NotFound, StoreFailed
from hyperhive.paths import make_private
from hyperhive.releasing import OrderOf, ReleaseLine

AccountKind = Literal["key", "token"]

DEFAULT = "default"
ENV: Final = "env"
OWN_LOGIN: Final = " (own login)"
"""Ends the name of an account that is an agent's own; no stored account can be named so."""

SECRET_MAX = 4096
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[!-~]+")
_VARIABLE: dict[AccountKind, str] = {"key": "ANTHROPIC_API_KEY", "token": "CLAUDE_CODE_OAUTH_TOKEN"}


class Secret:
    """A key or token. It shows itself as dots everywhere but in `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the environment of a CLI."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(•••)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account with its secret."""

    name: str
    kind: AccountKind
    secret: Secret

    def environment(self) -> dict[str, str]:
        """The one variable that a CLI of this account gets."""
        return {_VARIABLE[self.kind]: self.secret.reveal()}


class AccountState:
    """What is known of one account's health, in memory: its agents park and resume together by it.

    `generation` counts logins and new secrets: a turn that started under an older one cannot refuse the newer. `line`
    lets its agents go on one after the other when they may again. `account_states` keeps it over restarts.
    """

    def __init__(self, name: str, order: OrderOf = lambda _: (0, 0)) -> None:
        self.name = name
        self.needs_login = False
        self.limited_until: float | None = None
        self.generation = 0
        self.line = ReleaseLine(order)
        self._changed = anyio.Event()
        self._listeners: list[Callable[[AccountState], None]] = []

    def login_refused(self, generation: int) -> None:
        """A turn that started under `generation` was told to log in."""
        if generation == self.generation and not self.needs_login:
            self.needs_login = True
            self._notify()

    def login_landed(self) -> None:
        """There is a new login or secret: everybody may try again, limits included."""
        self.generation += 1
        self.needs_login = False
        self.limited_until = None
        self._notify()

    def limit(self, until: float) -> None:
        """The account's usage limit is hit until this unix time. A later reset time wins."""
        if self.limited_until is None or until > self.limited_until:
            self.limited_until = until
            self._notify()

    def blocked_until(self, now: float) -> float | None:
        """None: usable at unix time `now`; else when to look again (infinity: only after a login)."""
        if self.needs_login:
            return float("inf")
        if self.limited_until is not None and self.limited_until > now:
            return self.limited_until
        return None

    async def changed(self) -> None:
        """Return after the next change."""
        await self._changed.wait()

    def subscribe(self, listener: Callable[["AccountState"], None]) -> Callable[[], None]:
        """Call `listener` after each change (it must not raise or block); returns the way to stop that."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        for listener in tuple(self._listeners):
            listener(self)


class BoundAccount:
    """One agent's view of the account it runs under. `account` is None where the agent logs in by itself."""

    def __init__(self, name: str, account: Account | None, state: AccountState, agent: str = "") -> None:
        self.name = name
        self.agent = agent
        self.account = account
        self.state = state

    @property
    def own_login(self) -> bool:
        """The agent logs in by itself: `hyperhive login NAME` is the way."""
        return self.account is None and self.name.endswith(OWN_LOGIN)

    @property
    def kind(self) -> Literal["key", "token", "env", "login"]:
        """How it authenticates, as `AccountView.kind` has it."""
        if self.account is None:
            return "login"
        return ENV if self.name == ENV else self.account.kind

    def environment(self) -> dict[str, str]:
        """What the CLI's environment gets: one variable, or nothing where the login is the agent's own."""
        return {} if self.account is None else self.account.environment()


class Accounts:
    """All accounts of one hive. One owner: the core (`agent serve` has one without a directory)."""

    def __init__(self, directory: Path | None, accounts: Mapping[str, Account]) -> None:
        self._directory = directory
        self._accounts = dict(accounts)
        self._states: dict[str, AccountState] = {}
        self._listeners: list[Callable[[AccountState], None]] = []
        self.order: OrderOf = lambda _: (0, 0)
        """Which of the agents that an account parked goes first; set by who knows what waits for them."""

    @classmethod
    async def open(
        cls, directory: Path | None, environ: Mapping[str, str], *, handed: bool = False
    ) -> "Accounts":
        """Read what is stored (`directory` may not exist yet) and take account `env` from `environ`.

        `handed`: the directory holds what the core handed over (`hand_over`), which may be its `env`.

        Raises:
            StoreFailed: a file there cannot be read or makes no sense; it is named.
        """
        found = {} if directory is None else await anyio.to_thread.run_sync(_load_all, directory, handed)
        for kind, variable in _VARIABLE.items():
            if (value := environ.get(variable, "").strip()) and ENV not in found:
                found[ENV] = Account(name=ENV, kind=kind, secret=check_secret(value))
        return cls(directory, found)

    async def reread(self) -> None:
        """Something else may have been handed over: who waits for a login that came goes on.

        Raises:
            StoreFailed: as `open`.
        """
        if self._directory is None:
            return
        found = await anyio.to_thread.run_sync(_load_all, self._directory, True)  # noqa: FBT003 - as `open` says
        before, self._accounts = self._accounts, found
        for name, account in found.items():
            if name not in before or before[name].secret.reveal() != account.secret.reveal():
                self.state(name).login_landed()

    def names(self) -> list[str]:
        """The accounts' names, sorted."""
        return sorted(self._accounts)

    def kind(self, name: str) -> Literal["key", "token", "env"]:
        """How this account authenticates.

        Raises:
            NotFound: there is no such account.
        """
        account = self._get(name)
        return ENV if name == ENV else account.kind

    async def set(self, name: str, kind: AccountKind, secret: Secret) -> None:
        """Store an account durably (new or changed) and wake whoever waits for its login.

        Raises:
            BadRequest: no valid name or secret, or `env`, which is the environment's.
            StoreFailed: it could not be written; nothing changed.
        """
        check_account_name(name)
        check_secret(secret.reveal())
        if self._directory is None:
            raise BadRequest("accounts are kept by the hive, not by a harness of its own")
        account = Account(name=name, kind=kind, secret=secret)
        await anyio.to_thread.run_sync(_write, self._directory, account)
        self._accounts[name] = account
        self.state(name).login_landed()

    async def remove(self, name: str) -> None:
        """Forget an account and its secret. Agents of that name need a login from then on.

        Raises:
            NotFound: there is no such account.
            BadRequest: `env`: it goes when its variable is gone at the next start.
        """
        self._get(name)
        if name == ENV or self._directory is None:
            raise BadRequest(
                "the account env comes from the environment that the hive was started with",
                hint="start the hive without ANTHROPIC_API_KEY and CLAUDE_CODE_OAUTH_TOKEN",
            )
        await anyio.to_thread.run_sync((self._directory / name).unlink)
        del self._accounts[name]
        self.state(name).login_refused(self.state(name).generation)

    def bind(self, agent: str, account: str | None = None) -> BoundAccount:
        """The account that `agent` runs under now. Never fails; ask again after every change.

        It is the one named; for `default` or None, where that does not exist, `env`, else its own login. An account
        that is named and does not exist needs a login until it is stored.
        """
        if account is not None and account != DEFAULT:
            state = self.state(account)
            if account not in self._accounts:
                state.login_refused(state.generation)
            return BoundAccount(account, self._accounts.get(account), state, agent)
        for name in (DEFAULT, ENV):
            if name in self._accounts:
                return BoundAccount(name, self._accounts[name], self.state(name), agent)
        own = f"{agent}{OWN_LOGIN}"
        return BoundAccount(own, None, self.state(own), agent)

    def forget_own(self, agent: str) -> None:
        """The agent is gone for good, and its own login with it: nothing is known of one of its name any more."""
        self.state(f"{agent}{OWN_LOGIN}").login_landed()

    async def stored_at(self, name: str) -> float | None:
        """When an account's secret was written last (unix seconds); None where no file holds it."""
        if self._directory is None or name not in self._accounts or name == ENV:
            return None
        return await anyio.to_thread.run_sync(_written_at, self._directory / name)

    def state(self, name: str) -> AccountState:
        """The health of an account, whether it exists or not."""
        if name not in self._states:
            state = self._states[name] = AccountState(name, lambda agent: self.order(agent))
            state.subscribe(self._tell)
        return self._states[name]

    def secrets(self) -> list[str]:
        """Every key and token, to be masked wherever a text leaves the hive."""
        return [account.secret.reveal() for account in self._accounts.values()]

    def states(self) -> list[AccountState]:
        """The health of every account that was ever asked for, by name."""
        return [self._states[name] for name in sorted(self._states)]

    def subscribe(self, listener: Callable[[AccountState], None]) -> Callable[[], None]:
        """Call `listener` after each change of any account (it must not raise or block); returns the way to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, state: AccountState) -> None:
        for listener in tuple(self._listeners):
            listener(state)

    def _get(self, name: str) -> Account:
        if name not in self._accounts:
            raise NotFound(
                f"there is no account {name[:80]!r}", hint="`hyperhive login` stores one from a key or token"
            )
        return self._accounts[name]


def check_account_name(name: str) -> str:
    """The same name, if an account may be stored under it.

    Raises:
        BadRequest: it may not.
    """
    if _NAME.fullmatch(name) is None or name == ENV:
        raise BadRequest(f"{name[:80]!r} is no name for an account: 1 to 63 of a-z, 0-9 and '-', and not env")
    return name


def check_secret(text: str) -> Secret:
    """A key or token as typed or piped in, without the white space around it. It never appears in the error.

    Raises:
        BadRequest: empty, too long, or not printable ASCII in one word.
    """
    value = text.strip()
    if len(value) > SECRET_MAX or _SECRET.fullmatch(value) is None:
        raise BadRequest(f"a key or token is one word of at most {SECRET_MAX} printable characters")
    return Secret(value)


def guess_kind(secret: Secret) -> AccountKind:
    """Whether this looks like the output of `claude setup-token` (a token) or like an API key."""
    return "token" if secret.reveal().startswith("sk-ant-oat") else "key"


# --- files ----------------------------------------------------------------------------------------------------------


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    kind: AccountKind
    secret: str


def hand_over(directory: Path, account: Account | None) -> None:
    """Leaves this account and no other in a directory that a harness in a container reads. Blocks. Idempotent.

    Raises:
        StoreFailed: it could not be written.
    """
    try:
        there = [entry for entry in directory.iterdir() if account is None or entry.name != account.name]
        for entry in there:
            entry.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreFailed(f"{directory} cannot be cleared: {error.strerror}") from None
    if account is not None:
        _write(directory, account)


def _load_all(directory: Path, handed: bool = False) -> dict[str, Account]:
    try:
        names = sorted(entry.name for entry in directory.iterdir() if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreFailed(f"the accounts in {directory} cannot be read: {error.strerror}") from None
    return {name: _load(directory / name) for name in names if handed or name != ENV}


def _load(path: Path) -> Account:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
                os.fchmod(handle, 0o600)  # put there by hand: keep it from other users from now on
            stored = msgspec.json.decode(file.read(2 * SECRET_MAX), type=_Stored)
        return Account(name=path.name, kind=stored.kind, secret=check_secret(stored.secret))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, BadRequest):
        # The cause may hold a piece of the secret, so it is not repeated.
        raise StoreFailed(
            f"the account file {path} cannot be read", hint="remove it and run `hyperhive login` again"
        ) from None


def _written_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _write(directory: Path, account: Account) -> None:
    text = msgspec.json.encode(_Stored(kind=account.kind, secret=account.secret.reveal()))
    temporary = directory / f".{account.name}.{secrets.token_hex(4)}"
    try:
        make_private(directory)
        directory.chmod(0o700)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        temporary.replace(directory / account.name)
        _sync_directory(directory)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreFailed(f"the account {account.name} could not be stored: {error.strerror}") from None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
