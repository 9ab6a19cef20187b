"""The agent CLI: which one serves, whether its version will do, and installing the tested one.

Order: HYPERHIVE_CLAUDE, else `STATE/cli/VERSION/claude` (the version named in `STATE/cli/current`, else the newest
there), else `claude` on PATH. Below 2.1.200 it is refused; newer than the tested one warns. It is looked for at turn
boundaries, so that a change is taken there and never inside a turn; installing keeps the old version. A version is
asked once for each file. This file drives no turn and knows nothing of logins.
"""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from hyperhive.errors import BadRequest, MissingPart
from hyperhive.paths import make_private

TESTED: Final = "2.1.328"
OLDEST: Final = "2.1.200"
PACKAGE: Final = "@anthropic-ai/claude-code"
HOW_TO_GET: Final = "`hyperhive doctor --install-cli` installs the tested version by npm"
VARIABLE: Final = "HYPERHIVE_CLAUDE"
PASSED_THROUGH: Final = (
    "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "NO_PROXY", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""Variables of the operator's that a CLI gets, and a harness in a container for it."""
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
"""As those, but where they hold no user and password."""

_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}")
_PROBE_SECONDS = 30
_INSTALL_SECONDS = 600
_LEFT_SECONDS = 86_400
_Identity = tuple[int, int, int, int]


class AgentCli(msgspec.Struct, frozen=True, kw_only=True):
    """One usable agent CLI. `path` is absolute and holds no symlink; `warning` is for the operator."""

    path: Path
    version: str
    warning: str | None = None


class AgentClis:
    """Finds the agent CLI of one hive. `environ` is the operator's environment, `state_dir` the hive's (or None)."""

    def __init__(self, environ: Mapping[str, str], state_dir: Path | None) -> None:
        self._environ = environ
        self._directory = None if state_dir is None else state_dir / "cli"
        self._versions: dict[_Identity, str] = {}

    async def find(self) -> AgentCli:
        """The CLI that serves now. Asked at every turn boundary: a few looks at the disk, a `--version` for a new file.

        Raises:
            MissingPart: there is none, it does not run, or it is older than `OLDEST`; the hint says how to get one.
        """
        return await anyio.to_thread.run_sync(self._find)

    def refresh(self) -> None:
        """Forget every version asked so far: the next `find` asks again."""
        self._versions.clear()

    async def install(self, version: str = TESTED) -> AgentCli:
        """Fetch `version` by npm into `STATE/cli/VERSION/claude` and let it serve. Older ones stay for `use`.

        Raises:
            MissingPart: npm is not there or failed; what it said last is in the message.
            BadRequest: no version number, or there is no state directory.
        """
        directory = self._require_directory(version)
        await anyio.to_thread.run_sync(_install, directory, version, _npm_environment(self._environ))
        return await self.use(version)

    async def use(self, version: str) -> AgentCli:
        """Let an installed version serve from the next turn on (also the way back).

        Raises:
            BadRequest: it is not installed.
            MissingPart: it does not run; the one before goes on serving.
        """
        directory = self._require_directory(version)
        if version not in await anyio.to_thread.run_sync(_installed, directory):
            raise BadRequest(f"the agent CLI {version} is not installed", hint=HOW_TO_GET)
        cli = await anyio.to_thread.run_sync(self._probe, directory / version / "claude")
        await anyio.to_thread.run_sync(_write_atomically, directory / "current", f"{version}\n")
        return cli

    async def installed(self) -> list[str]:
        """The versions under STATE/cli, newest first."""
        return [] if self._directory is None else await anyio.to_thread.run_sync(_installed, self._directory)

    async def prune(self) -> list[str]:
        """Removes what is superseded under STATE/cli.

        What stays: the version that serves, the one that was installed last beside it, and the tested one. What an
        installation left that was cut short more than a day ago goes as well.

        Returns:
            The versions that were removed.
        """
        return [] if self._directory is None else await anyio.to_thread.run_sync(_prune, self._directory)

    def _require_directory(self, version: str) -> Path:
        if _VERSION.fullmatch(version) is None:
            raise BadRequest(f"{version[:80]!r} is no version: three numbers, such as {TESTED}")
        if self._directory is None:
            raise BadRequest("there is no state directory to install an agent CLI into")
        return self._directory

    def _find(self) -> AgentCli:
        if given := self._environ.get(VARIABLE):
            return self._probe(Path(given), source=VARIABLE)
        if self._directory is not None and (installed := _chosen(self._directory)):
            return self._probe(self._directory / installed / "claude")
        on_path = shutil.which("claude", path=self._environ.get("PATH") or os.defpath)
        if on_path is None:
            raise MissingPart("there is no agent CLI: no `claude` on PATH", hint=HOW_TO_GET)
        return self._probe(Path(on_path))

    def _probe(self, given: Path, source: str | None = None) -> AgentCli:
        called = f"{given} (from {source})" if source else str(given)
        try:
            path = given.resolve(strict=True)
            found = path.stat()
        except OSError as error:
            raise MissingPart(
                f"the agent CLI {called} is not there: {error.strerror}", hint=HOW_TO_GET
            ) from None
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if identity not in self._versions:
            self._versions[identity] = _ask_version(path, called)
        return _judge(path, self._versions[identity], called)


def _judge(path: Path, version: str, called: str) -> AgentCli:
    if _order(version) < _order(OLDEST):
        raise MissingPart(
            f"the agent CLI {called} is version {version}, and {OLDEST} is the oldest that works",
            hint=HOW_TO_GET,
        )
    warning = None
    if _order(version) > _order(TESTED):
        warning = f"the agent CLI {called} is version {version}, newer than the tested {TESTED}"
    return AgentCli(path=path, version=version, warning=warning)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _ask_version(path: Path, called: str) -> str:
    environment = {
        "HOME": "/nonexistent",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }
    try:
        done = subprocess.run(
            [path, "--version"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"the agent CLI {called} does not run: {error}", hint=HOW_TO_GET) from None
    says = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0 or (version := _VERSION.match(says)) is None:
        raise MissingPart(
            f"the agent CLI {called} does not tell its version: it exits {done.returncode} and says {says[:80]!r}",
            hint=HOW_TO_GET,
        )
    return version.group()


# --- STATE/cli ------------------------------------------------------------------------------------------------------


def _installed(directory: Path) -> list[str]:
    try:
        names = [entry.name for entry in directory.iterdir() if _VERSION.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted(
        (name for name in names if (directory / name / "claude").is_file()), key=_order, reverse=True
    )


def _chosen(directory: Path) -> str | None:
    installed = _installed(directory)
    with suppress(OSError, UnicodeDecodeError):
        if (current := (directory / "current").read_text().strip()) in installed:
            return current
    return installed[0] if installed else None


def _prune(directory: Path) -> list[str]:
    versions = sorted(_installed(directory), key=lambda one: _changed(directory / one), reverse=True)
    chosen = _chosen(directory)
    keep = {chosen, TESTED, *[one for one in versions if one != chosen][:1]}
    old = [one for one in versions if one not in keep]
    for version in old:
        shutil.rmtree(directory / version, ignore_errors=True)
    for left in directory.glob(".install-*"):
        if time.time() - _changed(left) > _LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    return sorted(old, key=_order)


def _changed(path: Path) -> float:
    """When; now, where it is gone already."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _install(directory: Path, version: str, environment: Mapping[str, str]) -> None:
    npm = shutil.which("npm", path=environment.get("PATH") or os.defpath)
    if npm is None:
        raise MissingPart("npm is not there", hint="install the package npm (it brings node), then try again")
    make_private(directory)
    # Inside the target's file system, so that the program can be linked and put in place by one rename.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".install-") as name:
        work = Path(name)
        _run_npm(npm, work, version, environment)
        ready = work / "ready"
        ready.mkdir(mode=0o755)
        _place(_native_program(work), ready / "claude")
        target = directory / version
        if target.exists():
            target.rename(work / "replaced")
        ready.rename(target)


def _run_npm(npm: str, work: Path, version: str, environment: Mapping[str, str]) -> None:
    # The program is one file in the package of this platform; install scripts would only copy it, and do not run.
    argv = [npm, "install", "--prefix", str(work), "--no-save", "--no-package-lock", "--ignore-scripts"]
    argv += ["--no-audit", "--no-fund", "--loglevel=error", f"{PACKAGE}@{version}"]
    try:
        done = subprocess.run(
            argv,
            env=environment,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"npm did not install the agent CLI {version}: {error}") from None
    if done.returncode != 0:
        says = " · ".join(done.stderr.decode(errors="replace").strip().splitlines()[:3])
        raise MissingPart(
            f"npm did not install the agent CLI {version}: it exits {done.returncode}: {says[:400]}"
        )


def _native_program(work: Path) -> Path:
    found = [
        path
        for path in sorted((work / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude"))
        if path.is_file() and not path.is_symlink()
    ]
    glibc = [path for path in found if "musl" not in path.parent.name] or found
    for path in glibc:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                return path
    raise MissingPart("npm brought no program of the agent CLI for this platform")


def _place(source: Path, target: Path) -> None:
    source.chmod(0o755)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _npm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    # npm is the operator's own tool and needs their proxy and npmrc; of the hive and its accounts it needs nothing.
    hidden = ("ANTHROPIC_", "CLAUDE_", "HYPERHIVE_", "HIVE_")
    return {name: value for name, value in environ.items() if not name.startswith(hidden)}


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text)
    temporary.replace(path)
