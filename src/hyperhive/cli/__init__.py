"""The command line: each command is a request to the hive, and its reply printed.

`main` runs one command and gives its exit code. It is where every error ends: as one line and a hint on standard
error, or as one JSON object where `--json` was given. Importing this package loads no framework.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperhive.cli.common import Common
    from hyperhive.errors import HiveError


def main(argv: Sequence[str] | None = None) -> None:
    """The console script `hyperhive`: runs one command and ends the process with its exit code."""
    code = 1
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that is not UTF-8 must not end a command
    try:
        code = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # 128 + SIGPIPE, as a shell reports it
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """One command; its exit code."""
    words = list(argv)
    if not words or words[0] in {"--help", "-h", "help"}:
        from hyperhive.cli.app import overview

        sys.stdout.write(overview())
        return 0 if words else 2
    if words == ["--version"]:
        from hyperhive import __version__

        sys.stdout.write(f"hyperhive {__version__}\n")
        return 0
    words = _globals_last(words)
    if words[0].startswith("-"):
        return _usage(words, f"unknown option {words[0]}; options follow the command")
    from hyperhive.cli.app import known

    return _run_command(words) if known(words[0]) else _unknown(words)


def _globals_last(words: list[str]) -> list[str]:
    """`--json` and the directories are also taken before the command."""
    moved: list[str] = []
    rest = list(words)
    while rest:
        takes = 1 if rest[0] == "--json" or rest[0].startswith(("--state-dir=", "--run-dir=")) else 0
        takes = 2 if rest[0] in {"--state-dir", "--run-dir"} else takes
        if not takes:
            break
        moved += rest[:takes]
        del rest[:takes]
    place = 2 if rest[:1] == ["agent"] else 1
    return [*rest[:place], *moved, *rest[place:]] if rest else words


def _unknown(words: list[str]) -> int:
    from difflib import get_close_matches

    from hyperhive.cli.app import names

    close = get_close_matches(words[0], names(), n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return _usage(words, f"there is no command {words[0][:80]!r}{guess}")


def _run_command(words: list[str]) -> int:
    from cyclopts import App, CycloptsError

    from hyperhive.cli.app import build
    from hyperhive.errors import HiveError, WorldError

    app = build(only=words[0], for_help=not {"--help", "-h"}.isdisjoint(words))
    assert isinstance(app, App)  # noqa: S101 (cyclopts is imported here alone, so `build` cannot name its type)
    try:
        command, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _usage(words, str(error))
    common = _common(bound.arguments)
    try:
        result = command(*bound.args, **bound.kwargs)
    except HiveError as error:
        return _fail(common, error)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(common, WorldError(str(error)))
    except BaseExceptionGroup as group:
        error_of_ours = _first_of_ours(group)
        if error_of_ours is None:
            raise
        return _fail(common, error_of_ours)
    except KeyboardInterrupt:
        from hyperhive.cli.exits import INTERRUPTED

        return INTERRUPTED
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> "HiveError | None":
    """A command that runs tasks ends with a group; where all in it are errors on purpose, the first is the answer."""
    from hyperhive.errors import HiveError

    ours, others = group.split(HiveError)
    if ours is None or others is not None:
        return None
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HiveError) else None


def _common(arguments: "dict[str, object]") -> "Common":
    from hyperhive.cli.common import DEFAULTS, Common

    found = arguments.get("common")
    return found if isinstance(found, Common) else DEFAULTS


def _usage(words: list[str], message: str) -> int:
    from hyperhive.cli.common import Common
    from hyperhive.errors import HiveError

    head = next((word for word in words if not word.startswith("-")), "")
    hint = f"`hyperhive {head} --help` says what it takes" if message.startswith("Command ") else None
    flags = words[: words.index("--")] if "--" in words else words
    error = HiveError(message, hint=hint or "`hyperhive --help` lists the commands", code="usage")
    return _fail(Common(as_json="--json" in flags), error)


def _fail(common: "Common", error: "HiveError") -> int:
    import msgspec

    from hyperhive.cli.common import Session
    from hyperhive.cli.exits import exit_code

    screen = Session(common).screen
    if common.as_json:
        fields = {"ok": False, "error": error.message, "code": error.wire_code}
        screen.json(msgspec.json.encode({**fields, "hint": error.hint} if error.hint else fields))
    else:
        screen.flush()
        screen.error(error.message, error.hint)
    return exit_code(error.wire_code)
