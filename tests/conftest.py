"""Fixtures every test may use, and the rules every test is held to.

- `@pytest.mark.needs("bwrap", ...)`: the test runs these real parts (tests/support/parts.py). Where one is
  missing the test is skipped with one line that says how to get it. `HYPERHIVE_TEST_REQUIRE=all` makes that, and
  every other skip, a failure; a comma list (`claude,bwrap`) does so for the named parts alone.
- A test in which hyperhive blocks the event loop fails, also where something swallowed the error
  (`loop_stays_free`); `@pytest.mark.may_block("why")` exempts one.
- No process that the suite started may outlive it (`pytest_sessionfinish`).
- A test that does not even end at its timeout (a tear-down that waits for ever) takes its worker with it, after the
  tracebacks of all threads (`Watchdog`): the run ends there, red, instead of never. No other worker takes its place
  (`--max-worker-restart=0`): pytest-xdist can stand still for ever after one did.
- A failure is told when it happens (`FailuresAtOnce`), not only at the end.
"""

import faulthandler
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from blockbuster import blockbuster as blockbuster_module
from hypothesis import settings

from children import MARK, survivors
from parts import PARTS, claude_path, missing

RUN = uuid.uuid4().hex
REQUIRED = {part.strip() for part in os.environ.get("HYPERHIVE_TEST_REQUIRE", "").split(",") if part.strip()}
REQUIRE_ALL = "all" in REQUIRED

# Where hyperhive may block a running loop, each with its reason. A hop to a thread is the normal answer.
MAY_BLOCK: list[tuple[str, str, set[str]]] = [
    # (blockbuster's name of the call, end of the file's path, function): reason in the comment above the row
    # a log line is one small write to a stream that the operator chose; a hop per line would reorder the log
    ("io.TextIOWrapper.write", "logging/__init__.py", {"emit", "handleError"}),
    ("io.BufferedWriter.write", "logging/__init__.py", {"emit", "handleError"}),
    # once, when a hive is opened and serves nothing yet
    ("os.path.abspath", "hyperhive/paths.py", {"of"}),
    ("os.stat", "hyperhive/paths.py", {"of"}),
    ("os.readlink", "hyperhive/paths.py", {"of"}),
]


# Examples are slow on a busy machine and that is no fault; a failure prints what reproduces it.
settings.register_profile("push", deadline=None, print_blob=True)
settings.register_profile("campaign", settings.get_profile("push"), max_examples=5000)


@pytest.hookimpl(tryfirst=True)  # before the directory for temporary files is chosen
def pytest_configure(config: pytest.Config) -> None:
    """Mark this run for the children check, choose how many examples, and refuse a part nobody knows."""
    settings.load_profile("campaign" if config.option.markexpr == "campaign" else "push")
    os.environ[MARK] = RUN
    # Whoever runs this in the background may ignore them, and children inherit that: Ctrl-C could not be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.pluginmanager.register(Watchdog(config))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(config))
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        # Names of sockets end at 107 bytes: a worker's own directory below pytest's would leave tests too few.
        if config.option.basetemp is None:
            config.option.basetemp = tempfile.mkdtemp(prefix="hh-")
        config.pluginmanager.register(Workers(config))
    if unknown := REQUIRED - PARTS.keys() - {"all"}:
        raise pytest.UsageError(f"HYPERHIVE_TEST_REQUIRE names unknown parts: {', '.join(sorted(unknown))}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A misspelt part would skip a test for ever: say so at once."""
    for item in items:
        for marker in item.iter_markers("needs"):
            if not marker.args or (unknown := set(marker.args) - PARTS.keys()):
                raise pytest.UsageError(
                    f"{item.nodeid} needs unknown parts: {marker.args and sorted(unknown)}"
                )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip (or fail) before any fixture of the test has run."""
    for marker in item.iter_markers("needs"):
        for part in marker.args:
            if line := missing(part):
                if REQUIRE_ALL or part in REQUIRED:
                    pytest.fail(line, pytrace=False)
                pytest.skip(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under HYPERHIVE_TEST_REQUIRE=all a skip is a failure, whatever its reason."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped under HYPERHIVE_TEST_REQUIRE=all: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself while it is collected."""
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped under HYPERHIVE_TEST_REQUIRE=all: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)  # after the workers of a run on several cores have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a process of it is still there; give what is just ending two seconds."""
    factory = getattr(session.config, "_tmp_path_factory", None)  # the directory is made on first use
    base = [] if factory is None or factory._basetemp is None else [f"{factory._basetemp}/"]
    deadline = time.monotonic() + 2
    while (left := survivors(RUN, *base)) and time.monotonic() < deadline:
        time.sleep(0.05)
    _fail_for(session, [f"{child.pid} {child.argv}" for child in left])


def _fail_for(session: pytest.Session, left: list[str]) -> None:
    if not left:
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several workers: the run's own process is told
        output["left"] = left
    else:
        print("\nprocesses that outlived the suite:", *(f"  {line}" for line in left), sep="\n")


class Watchdog:
    """Ends this process where a test or its tear-down hangs: what pytest-timeout raises once can be swallowed.

    pytest's own `faulthandler_timeout` gives up at the first failure, and what hangs is mostly the tear-down after one.
    """

    GRACE_SECONDS = 60

    def __init__(self, config: pytest.Config) -> None:
        self._limit = float(config.getoption("timeout", None) or config.getini("timeout"))
        self._off = config.getoption("timeout", None) == 0
        self._stderr = os.dup(2)  # before a test's output is captured

    def _arm(self, seconds: float) -> None:
        if not self._off:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._stderr)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        marker = item.get_closest_marker("timeout")
        limit = self._limit if marker is None else float(marker.args[0])
        if limit:
            self._arm(limit + self.GRACE_SECONDS)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        self._arm(self._limit + self.GRACE_SECONDS)  # anew: a failure has disarmed it


class FailuresAtOnce:
    """Prints each failure's last lines when it happens: a run that is cut short has told what it found."""

    LINES = 12

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"FAILED {report.nodeid} ({report.when}, after {report.duration:.1f} s)")
            for line in report.longreprtext.splitlines()[-self.LINES :]:
                terminal.write_line(f"    {line}")


class Workers:
    """Hears from the workers of a run on several cores."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left: list[str] = []

    def pytest_testnodedown(self, node: Any) -> None:
        self._left += getattr(node, "workeroutput", {}).get("left", [])

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        yield
        _fail_for(session, self._left)
        if session.exitstatus == pytest.ExitCode.OK:
            shutil.rmtree(self._config.option.basetemp, ignore_errors=True)


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that HyperHive is served on."""
    return "asyncio"


@pytest.fixture(scope="session")
def claude_cli() -> Path:
    """The agent CLI 2.1.328; the test says `@pytest.mark.needs("claude")`."""
    return claude_path("2.1.328")


@pytest.fixture(scope="session")
def claude_cli_200() -> Path:
    """The agent CLI 2.1.200, the oldest that is served; with `@pytest.mark.needs("claude-2.1.200")`."""
    return claude_path("2.1.200")


@pytest.fixture(autouse=True)
def loop_stays_free(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test when hyperhive makes a blocking call on a running event loop."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    seen: list[str] = []

    class Recorded(
        blockbuster_module.BlockingError
    ):  # a supervisor may swallow the error; the list does not forget
        def __init__(self, func: str) -> None:
            super().__init__(func)
            seen.append(func)

    monkeypatch.setattr(blockbuster_module, "BlockingError", Recorded)
    buster = BlockBuster("hyperhive")
    for call, file, function in MAY_BLOCK:
        buster.functions[call].can_block_in(file, function)
    buster.activate()
    try:
        yield
    finally:
        buster.deactivate()
    assert not seen, f"hyperhive blocked the event loop: {', '.join(seen)}"
