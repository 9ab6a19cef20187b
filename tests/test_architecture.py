"""The shape of the code, as claims: which way imports run, where frameworks may appear, who may look at a role.

The layers themselves stand in pyproject.toml (import-linter); this file runs them and adds what that tool cannot say.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

import hyperhive
from parts import ROOT

SRC = ROOT / "src"

# A framework may be imported by these modules (and what is below them) and nowhere else.
FRAMEWORKS = {
    "mcp": ("hyperhive.mcp", "hyperhive.testing"),
    "mcp_types": ("hyperhive.mcp", "hyperhive.testing"),
    "pydantic": ("hyperhive.mcp",),
    "cyclopts": ("hyperhive.cli",),
    "sqlite_utils": ("hyperhive.store",),
    "structlog": ("hyperhive.cli", "hyperhive.logs"),
    "litestar": ("hyperhive.web",),
    "uvicorn": ("hyperhive.web",),
}

# What a light import must not load, however it comes in.
HEAVY = {"litestar", "mcp", "mcp_types", "sqlite_utils", "structlog", "pydantic", "uvicorn"}

# Functions that may catch every exception: supervisors, which turn one part's fault into a record and go on.
SUPERVISORS: set[tuple[str, str]] = {
    (
        "protocol/dispatch.py",
        "Dispatcher.dispatch",
    ),  # a handler's bug is answered as a bug; the connection lives on
    ("background.py", "Background._supervise"),  # a task that fails is logged and takes no other with it
    ("store/writer.py", "Writer._main"),  # the writer's thread cannot start: whoever opens the store is told
    ("store/writer.py", "Writer._execute"),  # one bad job must not fail the others of its batch
    ("store/writer.py", "Writer._alone"),  # the error is that one caller's
    ("gateway/door.py", "Door._welcome"),  # one connection must not end the others
    ("crew.py", "Embedded.run"),  # one agent's loop must not end the others'
    ("testing/runtime_suite.py", "_passes"),  # a case that fails is counted; the other cases run all the same
    ("testing/inside_suite.py", "_passes"),  # likewise
    ("broker/reminder_timer.py", "ReminderTimer._write"),  # one file must not stop the other reminders
    (
        "lifecycle/deploy/deployer.py",
        "Deployer._carry_out",
    ),  # a bug in a step must not leave an approval hanging
    ("store/store.py", "Store._settle"),  # a callback that fails must not keep others from their answers
}


@cache
def trees() -> dict[Path, ast.Module]:
    """Every source file of the package, parsed once."""
    return {path: ast.parse(path.read_text(), str(path)) for path in sorted(SRC.rglob("*.py"))}


def within(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every node with the dotted name of the function or class that it stands in."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, name = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{name}.{node.name}".lstrip(".")
        for child in ast.iter_child_nodes(node):
            yield child, name
            waiting.append((child, name))


def short(path: Path) -> str:
    """A source file as the tables here name it."""
    return path.relative_to(SRC / "hyperhive").as_posix()


def tracked() -> list[Path]:
    """The files that are in git; a source archive without git has the same by walking."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=20
        )
    except (OSError, subprocess.CalledProcessError):
        return [
            path for path in ROOT.rglob("*") if path.is_file() and not {".venv", ".parts"} & set(path.parts)
        ]
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_the_import_contract_holds() -> None:
    # In a process of its own: it configures logging, and switches off every logger that there is.
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_frameworks_stay_at_the_entry_points() -> None:
    graph = grimp.build_graph("hyperhive", include_external_packages=True, cache_dir=None)
    strays = [
        f"{module} imports {framework}"
        for framework, homes in FRAMEWORKS.items()
        if framework in graph.modules
        for module in graph.find_modules_that_directly_import(framework)
        if not any(module == home or module.startswith(f"{home}.") for home in homes)
    ]
    assert not strays


@pytest.mark.parametrize("statement", ["import hyperhive", "import hyperhive.cli", "import hyperhive.client"])
def test_a_light_import_loads_no_framework(statement: str) -> None:
    program = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(json.loads(done.stdout))


def test_only_policy_looks_at_an_actors_role() -> None:
    """What an agent *is* (a row's column, a view's field) may be read; who *speaks* decides in one place alone."""
    strays = []
    for path, tree in trees().items():
        nodes = list(ast.walk(tree))
        knows_actors = any(
            isinstance(node, ast.ImportFrom) and node.module == "hyperhive.protocol.policy" for node in nodes
        )
        for node in nodes:
            if not isinstance(node, ast.Attribute) or node.attr not in {"role", "roles", "shown_role"}:
                continue
            speaker = re.search(r"actor|caller", ast.unparse(node.value), re.IGNORECASE)
            if (knows_actors or speaker) and short(path) != "protocol/policy.py":
                strays.append(f"{short(path)}:{node.lineno}")
    assert not strays


def test_the_public_names_are_sorted_and_are_exactly_what_the_package_gives() -> None:
    names = list(hyperhive.__all__)
    assert names == sorted(set(names))
    public = {name for name in dir(hyperhive) if not name.startswith("_")}
    modules = {path.stem if path.suffix else path.name for path in (SRC / "hyperhive").iterdir()}
    assert public - modules - {"TYPE_CHECKING"} | set(names) == set(names)
    for name in names:
        assert getattr(hyperhive, name) is not None


def test_what_type_checkers_see_is_what_the_package_gives() -> None:
    """The lazy table and the imports under TYPE_CHECKING are two lists of the same names."""
    tree = trees()[SRC / "hyperhive" / "__init__.py"]
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hyperhive.")
        for alias in node.names
    }
    assert typed == set(hyperhive.__all__)


def test_no_bare_except_outside_a_named_supervisor() -> None:
    strays = []
    for path, tree in trees().items():
        for node, function in within(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            broad = re.search(r"\b(everything|Exception|BaseException)\b", caught)
            raises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            if broad and not raises and (short(path), function) not in SUPERVISORS:
                strays.append(f"{short(path)}:{node.lineno} ({function}) catches {caught}")
    assert not strays


def test_every_named_supervisor_exists() -> None:
    there = {
        (short(path), name) for path, tree in trees().items() for name in {name for _, name in within(tree)}
    }
    assert there >= SUPERVISORS


def test_no_shell_is_asked_to_run_anything() -> None:
    strays = [
        f"{short(path)}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            any(word.arg == "shell" for word in node.keywords)
            or ast.unparse(node.func) in {"os.system", "os.popen", "asyncio.create_subprocess_shell"}
        )
    ]
    assert not strays


def test_every_source_file_says_what_it_is_for() -> None:
    strays = [short(path) for path, tree in trees().items() if not ast.get_docstring(tree)]
    assert not strays


# Spelt in halves, so that this file does not find itself.
REGISTRIES = [
    "registry." + "npmjs",
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "deb." + "debian",
    "archive." + "ubuntu",
]
MACHINE = [
    "/wo" + "rk/",
    "/fa" + "rm/",
    "/ro" + "ot/",
    "/opt/" + "pypi",
    "/opt/" + "wheels",
    "/tmp/" + "team",
]


@pytest.mark.parametrize("needle", REGISTRIES + MACHINE)
def test_no_file_names_a_registry_host_or_somebodys_machine(needle: str) -> None:
    strays = [str(path.relative_to(ROOT)) for path in tracked() if needle.encode() in path.read_bytes()]
    assert not strays


def test_every_pinned_requirement_has_a_hash_and_no_address() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text().replace("\\\n", " ")
        pins = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        assert pins, path
        assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == [], path
        assert "://" not in text, path


def test_what_the_package_asks_for_is_what_is_pinned() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!~\[; ]", line)[0] for line in asked}
    wanted = (ROOT / "requirements" / "runtime.in").read_text().splitlines()
    assert {line for line in wanted if line and not line.startswith("#")} == names
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "runtime.txt").read_text(), re.MULTILINE)
    )
    assert names <= pinned


def test_no_npm_lock_names_an_address() -> None:
    locks = [path for path in tracked() if path.name == "package-lock.json"]
    assert locks
    assert [path for path in locks if '"resolved"' in path.read_text()] == []
