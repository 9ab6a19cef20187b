"""Claims about the suite itself: what it refuses and notices. Each runs a small suite in its own process."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from parts import CLEAN_ENV, PARTS, ROOT


def run_suite(tmp_path: Path, source: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `source` as a test file under this suite's own conftest and configuration."""
    file = tmp_path / "test_sample.py"
    file.write_text(textwrap.dedent(source))
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    argv += ["--rootdir", str(ROOT), "--confcutdir", str(ROOT), "-p", "conftest", str(file)]
    return subprocess.run(
        argv,
        env=CLEAN_ENV | {"PYTHONPATH": f"{ROOT}/tests:{ROOT}/tests/support"} | env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


NEEDS_WHAT_IS_NOT_THERE = """
    import parts, pytest
    parts.PARTS["unicorn"] = parts.Part(lambda: "no horn", "ask nicely")

    @pytest.mark.needs("unicorn")
    def test_it(): raise AssertionError("must not run")
"""


def test_a_missing_part_is_a_skip_that_names_it_and_how_to_get_it(tmp_path: Path) -> None:
    done = run_suite(tmp_path, NEEDS_WHAT_IS_NOT_THERE)
    assert done.returncode == 0, done.stdout
    assert "needs unicorn: no horn; ask nicely" in done.stdout


def test_under_require_all_a_missing_part_is_a_failure(tmp_path: Path) -> None:
    done = run_suite(tmp_path, NEEDS_WHAT_IS_NOT_THERE, HYPERHIVE_TEST_REQUIRE="all")
    assert done.returncode == 1, done.stdout
    assert "needs unicorn: no horn; ask nicely" in done.stdout


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_it(): pytest.skip('not today')",
        "import pytest\n@pytest.mark.skip(reason='not today')\ndef test_it(): ...",
        "import pytest\npytest.skip('not today', allow_module_level=True)",
    ],
    ids=["inside", "marked", "whole file"],
)
def test_under_require_all_every_skip_is_a_failure(tmp_path: Path, source: str) -> None:
    assert run_suite(tmp_path, source).returncode in {0, 5}
    done = run_suite(tmp_path, source, HYPERHIVE_TEST_REQUIRE="all")
    assert done.returncode not in {0, 5}, done.stdout
    assert "not today" in done.stdout


def test_a_part_nobody_knows_is_refused(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "import pytest\n@pytest.mark.needs('bwarp')\ndef test_it(): ...")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "bwarp" in done.stderr + done.stdout


def test_a_required_part_nobody_knows_is_refused(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "def test_it(): ...", HYPERHIVE_TEST_REQUIRE="bwarp")
    assert done.returncode != 0
    assert "bwarp" in done.stderr + done.stdout


BLOCKS = """
    import contextlib, sqlite3, sys, types, hyperhive
    code = compile("def block(c): c.execute('select 1')", hyperhive.__file__, "exec")
    space = {}
    exec(code, space)

    async def test_it():
        connection = sqlite3.connect(":memory:")
        with contextlib.suppress(Exception):
            space["block"](connection)
        connection.close()
"""


def test_a_test_in_which_hyperhive_blocks_the_loop_fails_even_if_the_error_is_swallowed(
    tmp_path: Path,
) -> None:
    done = run_suite(tmp_path, BLOCKS)
    assert done.returncode == 1, done.stdout
    assert "hyperhive blocked the event loop: sqlite3.Connection.execute" in done.stdout


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "import warnings\ndef test_it(): warnings.warn('old', DeprecationWarning)")
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize("kind", ["child", "daemon", "daemon with a clean environment"])
def test_a_process_that_outlives_the_suite_fails_it(tmp_path: Path, kind: str) -> None:
    source = f"""
        import subprocess
        keep = []
        def test_it(tmp_path):
            clean = {"clean" in kind}
            shell = "sleep 60" if {kind == "child"} else "sleep 60 &"
            quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            keep.append(subprocess.Popen(["/bin/sh", "-c", shell], cwd=tmp_path,
                        env={{"PATH": "/bin"}} if clean else None, **quiet))
            if {kind != "child"}: keep.pop().wait()
    """
    done = run_suite(tmp_path, source)
    assert done.returncode == 1, done.stdout
    assert "processes that outlived the suite" in done.stdout
    left = [int(line.split()[0]) for line in done.stdout.splitlines() if "sleep 60" in line]
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert left, done.stdout


def test_every_part_says_how_to_get_it() -> None:
    assert all(part.how for part in PARTS.values())
