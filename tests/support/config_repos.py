"""A hive's directories with real repos, and the manager's side: what a manager does in its own proposed repo."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.lifecycle.repos import PlainReader, RepoLimits, Repos
from hyperhive.lifecycle.runtimes import BwrapRuntime, NspawnRuntime, Runtime
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from parts import NSPAWN_BASE

ALICE = AgentName("alice")
PATH = os.environ.get("PATH", "/usr/bin:/bin")


def shell_git(repo: Path, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    """Runs git as the manager would in its own repo, free of the machine's configuration."""
    done = subprocess.run(
        ["git", *args],
        cwd=repo,
        input=stdin,
        env={
            "PATH": PATH,
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_DATE": "@1700000000 +0000",
            "GIT_COMMITTER_DATE": "@1700000000 +0000",
            "GIT_AUTHOR_NAME": "m",
            "GIT_AUTHOR_EMAIL": "m@example.invalid",
            "GIT_COMMITTER_NAME": "m",
            "GIT_COMMITTER_EMAIL": "m@example.invalid",
            **(env or {}),
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (args, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace").strip()


@dataclass
class Desk:
    """The manager's desk: the proposed repo of one agent."""

    repo: Path

    def git(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Runs git in the proposed repo."""
        return shell_git(self.repo, *args, stdin=stdin, env=env)

    def commit(self, files: Mapping[str, str | bytes], message: str = "change") -> str:
        """Commits these files on the branch that is checked out; gives the id."""
        for name, content in files.items():
            place = self.repo / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A", "-f")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def sneak(self, name: str, content: str) -> str:
        """Commits one more file without looking at the others, which its content may be about; gives the id."""
        self.git("update-index", "--add", "--cacheinfo", f"100644,{self.blob(content.encode())},{name}")
        commit = self.git("commit-tree", self.git("write-tree"), "-p", "HEAD", "-m", "sneaked")
        self.git("update-ref", "HEAD", commit)
        (self.repo / name).write_text(content)
        return commit

    def tree(self, entries: list[tuple[str, str, bytes]], *, onto: str | None = "HEAD") -> str:
        """Commits a tree made entry by entry (mode, object, name), past all that git would refuse; gives the id."""
        raw = b"".join(
            mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha) for mode, sha, name in entries
        )
        tree = self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=raw)
        parents = () if onto is None else ("-p", self.git("rev-parse", onto))
        commit = self.git("commit-tree", tree, *parents, "-m", "forged")
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, content: bytes) -> str:
        """A blob's id."""
        return self.git("hash-object", "-w", "--stdin", stdin=content)


def paths_at(place: Path) -> Paths:
    """A hive's directories under `place`, with alice's."""
    paths = Paths.of(place / "s")
    paths.make_hive()
    paths.make_agent(ALICE)
    return paths


def plain_repos(paths: Paths, limits: RepoLimits | None = None) -> Repos:
    """Repos of a hive without boxes."""
    return Repos(
        paths,
        path=PATH,
        reader=lambda marks: PlainReader(paths, marks, PATH),
        applied_seen=str(paths.applied),
        limits=limits,
    )


async def boxed_repos(paths: Paths, kind: str = "bwrap") -> tuple[Repos, Runtime]:
    """Repos of a hive whose agents live in bubblewrap boxes or nspawn containers; the caller closes the runtime."""
    runtime: Runtime = BwrapRuntime(paths, {"PATH": PATH}, owner="repos-test")
    if kind == "nspawn":
        runtime = NspawnRuntime(paths, {"PATH": PATH}, owner="repos-test", base=str(NSPAWN_BASE))
    await runtime.check()
    return Repos.of(paths, runtime, PATH), runtime
