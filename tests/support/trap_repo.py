"""The trap repo: every way known to make git run a program of the repo's choice, each armed.

A program that was run makes the file `sprung` and says there what ran it. The manager can arm all of this, so no git of
the core's may ever step on it.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from config_repos import Desk

_ONE_PROGRAM = (
    "core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.pager", "core.editor", "core.askPass",
    "core.alternateRefsCommand", "diff.external", "diff.trap.textconv", "diff.trap.command", "filter.trap.clean",
    "filter.trap.smudge", "merge.trap.driver", "gpg.program", "gpg.ssh.program", "gpg.x509.program", "sequence.editor",
    "credential.helper", "uploadpack.packObjectsHook", "remote.origin.uploadpack", "remote.origin.receivepack",
    "trailer.trap.command", "trailer.trap.cmd", "interactive.diffFilter", "mergetool.trap.cmd", "difftool.trap.cmd",
    "pager.diff", "pager.log", "pager.upload-pack", "tar.trap.command", "browser.trap.cmd", "man.trap.cmd",
)  # fmt: skip
_HOOKS = (
    "pre-commit", "post-commit", "post-checkout", "post-merge", "post-rewrite", "pre-push", "pre-receive", "update",
    "post-receive", "post-update", "reference-transaction", "proc-receive", "fsmonitor-watchman", "post-index-change",
    "pre-auto-gc", "push-to-checkout", "sendemail-validate", "applypatch-msg", "pre-rebase", "commit-msg",
)  # fmt: skip


@dataclass
class Trap:
    """An armed repo. `sprung` is there once a program of it has run."""

    program: Path
    sprung: Path

    def disarmed(self) -> bool:
        """Whether nothing has run."""
        return not self.sprung.exists()


def arm(desk: Desk, outside: Path) -> Trap:
    """Arms an ordinary repo. `outside`: a directory of the host's that the repo's programs would write to."""
    outside.mkdir(exist_ok=True)
    sprung, git = outside / "sprung", desk.repo / ".git"
    program = git / "trap"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {shlex.quote(str(sprung))}\ncat\n')
    program.chmod(0o755)
    lines = [f'[{section}]\n\t{key} = "{program}"\n' for section, key in map(_section, _ONE_PROGRAM)]
    lines.append('[filter "trap"]\n\trequired = true\n')
    lines.append(f"[core]\n\thooksPath = {git}/hooks\n\tattributesFile = {git}/info/attributes\n")
    lines.append("[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[log]\n\tshowSignature = true\n")
    lines.append("[protocol]\n\tallow = always\n[safe]\n\tdirectory = *\n\tbareRepository = all\n")
    lines.append(f'[url "ext::{program} "]\n\tinsteadOf = /\n\tinsteadOf = fd::\n')
    lines.append(f'[alias]\n\tupload-pack = "!{program}"\n\tfetch = "!{program}"\n')
    lines.append(f"[include]\n\tpath = {git}/more\n")
    (git / "more").write_text(
        f'[core]\n\tfsmonitor = "{program}"\n[uploadpack]\n\tpackObjectsHook = "{program}"\n'
    )
    with (git / "config").open("a") as config:
        config.writelines(lines)
    (git / "hooks").mkdir(exist_ok=True)
    for name in _HOOKS:
        (git / "hooks" / name).symlink_to(program)
    (git / "info").mkdir(exist_ok=True)
    (git / "info" / "attributes").write_text("* filter=trap diff=trap merge=trap\n")
    (git / "info" / "grafts").write_text("")
    os.utime(git / "index", (0, 0))  # so that git must look at the files again, through the filter
    return Trap(program, sprung)


def _section(key: str) -> tuple[str, str]:
    first, _, rest = key.partition(".")
    middle, dot, last = rest.rpartition(".")
    return (f'{first} "{middle}"' if dot else first), last
