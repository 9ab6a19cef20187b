"""Runs Debian's nix on what nix/ holds: evaluation without a store, and flakes in a store of their own.

Never the machine's own store or configuration (but where HYPERHIVE_TEST_NIX_STORE is `daemon`, on a machine that was
made for that), and never a network.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from parts import ROOT

NIX = ROOT / "nix"
FILES = sorted(NIX.rglob("*.nix"))


def environment(home: Path) -> dict[str, str]:
    """A store, caches and a configuration below `home`; nothing is fetched from anywhere."""
    if os.environ.get("HYPERHIVE_TEST_NIX_STORE") == "daemon":
        return {"PATH": os.environ["PATH"], "HOME": str(home), "NIX_REMOTE": "daemon"}
    config = (
        "experimental-features = nix-command flakes",
        "substituters =",
        "sandbox = false",
        "build-users-group =",
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NIX_CONFIG": "\n".join(config),
        "NIX_STORE_DIR": f"{home}/nix/store",
        "NIX_STATE_DIR": f"{home}/nix/var",
        "NIX_LOG_DIR": f"{home}/nix/log",
        "NIX_CONF_DIR": f"{home}/etc",
    }


@dataclass
class Evaluated:
    """What an expression came to: its value, or what was said of why it has none."""

    value: object
    error: str


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One nix command. Blocks."""
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=50, env=environment(home), cwd=home
    )


def evaluate(home: Path, expression: str) -> Evaluated:
    """An expression with `nix/` as its working directory's `lib`; strict, as JSON, with no store at all. Blocks."""
    text = f"let lib = import {NIX}/lib; in {expression}"
    done = run(home, "nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", "-E", text)
    return Evaluated(json.loads(done.stdout) if done.returncode == 0 else None, done.stderr)


def quoted(text: str) -> str:
    """As a Nix string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return '"' + escaped.replace("\n", "\\n") + '"'
