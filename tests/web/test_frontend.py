"""The built pages: small, whole, fit for the strict content policy, and in the wheel. Their behaviour: web/browser."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from parts import ROOT

FRONTEND = ROOT / "src/hyperhive/web/frontend"
STATIC = ROOT / "src/hyperhive/web/static"
KB = 1024


def build_hook(*arguments: str) -> None:
    """The build hook as a program."""
    done = subprocess.run(
        [sys.executable, ROOT / "hatch_build.py", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_hook("pages")


def zipped(path: Path) -> int:
    """Bytes that go over the wire."""
    return len(gzip.compress(path.read_bytes(), 9))


def imported(script: Path, seen: set[Path] | None = None) -> set[Path]:
    """A chunk and all that it imports without being asked later."""
    seen = set() if seen is None else seen
    if script not in seen:
        seen.add(script)
        for name in re.findall(r'(?:from|import)\s?"\./([\w.-]+\.js)"', script.read_text()):
            imported(script.parent / name, seen)
    return seen


def the_chunk(name: str) -> Path:
    """The chunk of a screen, by its name before the hash."""
    (found,) = STATIC.glob(f"assets/{name}-*.js")
    return found


def entry() -> Path:
    """The script that the page begins with."""
    (found,) = re.findall(r'<script[^>]* src="/(assets/[^"]+)"', (STATIC / "index.html").read_text())
    return STATIC / str(found)


def test_a_dashboard_costs_at_most_60_kb_of_script_and_15_kb_of_style_on_the_wire() -> None:
    scripts = imported(entry()) | imported(the_chunk("fleet"))
    styles = [*STATIC.glob("assets/index-*.css"), *STATIC.glob("assets/fleet-*.css")]
    assert sum(map(zipped, scripts)) <= 60 * KB
    assert sum(map(zipped, styles)) <= 15 * KB


def test_the_statistics_cost_at_most_30_kb_more() -> None:
    assert sum(map(zipped, imported(the_chunk("stats")) - imported(entry()))) <= 30 * KB


def test_a_page_has_no_inline_script_or_style_and_names_no_other_origin() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    for asset in STATIC.glob("assets/*.css"):
        assert re.findall(r"url\((?!data:)[^)]*//|@import", asset.read_text()) == [], asset.name
    assert re.findall(r'(?:src|href)="(?!/assets/)', page) == []


def test_no_source_makes_markup_of_text_but_the_sanitiser() -> None:
    sources = [path for path in (FRONTEND / "src").rglob("*.ts*") if ".test." not in path.name]
    guilty = {
        str(path.relative_to(FRONTEND / "src"))
        for path in sources
        if re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet", path.read_text()
        )
    }
    assert guilty <= {"lib/markdown.ts", "lib/markdown-view.tsx"}


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (FRONTEND / "package-lock.json").read_text()


@pytest.mark.timeout(240)
def test_the_pure_modules_keep_their_promises() -> None:
    build_hook("npm", "test", "--silent")


@pytest.mark.timeout(240)
def test_the_types_fit_what_the_hive_serves() -> None:
    build_hook("npm", "run", "--silent", "types:check")


@pytest.mark.timeout(240)
def test_a_wheel_holds_the_pages_and_everything_they_load_but_not_their_sources(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as whole:
        names = set(whole.namelist())
        page = whole.read("hyperhive/web/static/index.html").decode()
    for path in re.findall(r'(?:src|href)="/(assets/[^"]+)"', page):
        assert f"hyperhive/web/static/{path}" in names
    for asset in STATIC.glob("assets/*"):
        assert f"hyperhive/web/static/assets/{asset.name}" in names
    assert [name for name in names if "frontend" in name or "node_modules" in name] == []
