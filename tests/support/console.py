"""The installed console script as a user runs it: a process of its own, with an environment that it was given."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).parent / "hyperhive"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@dataclass
class Console:
    """Runs `hyperhive` with a home of its own. `env` holds what a test adds."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        """What the process gets, and nothing else."""
        base = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONWARNINGS": "error"}
        marks = {key: value for key, value in os.environ.items() if key.startswith("HYPERHIVE_TEST")}
        return {**base, **marks, **self.env}

    def run(self, *words: str, stdin: str | None = None, timeout: float = 30.0) -> Done:
        """One command, to its end."""
        done = subprocess.run(
            [str(PROGRAM), *words], input=stdin if stdin is not None else "", env=self.environ(), cwd=self.home,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)
