"""Every runtime does what the conformance suite says, on real programs and the real bubblewrap."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hyperhive.config import RuntimeName
from hyperhive.errors import MissingPart, NotAvailable
from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.paths import Paths
from hyperhive.testing.runtime_suite import RUNTIME_CASES, RuntimeKit

pytestmark = pytest.mark.may_block(
    "the cases look at files between programs; the runtime itself is watched elsewhere"
)


@pytest.fixture(params=["process", pytest.param("bwrap", marks=pytest.mark.needs("bwrap"))])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RuntimeKit]:
    async with RuntimeKit.open(request.param, tmp_path) as kit:
        yield kit


@pytest.mark.parametrize("case", RUNTIME_CASES, ids=lambda case: case.__name__)
async def test_conforms(case: Callable[[RuntimeKit], Awaitable[None]], kit: RuntimeKit) -> None:
    await case(kit)


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("name", ["auto", "bwrap"])
async def test_auto_is_bwrap(name: RuntimeName, tmp_path: Path) -> None:
    runtime = await pick_runtime(name, Paths.of(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert (runtime.name, runtime.isolation, runtime.network) == ("bwrap", "bwrap", "host")
    await runtime.aclose()


async def test_without_bubblewrap_auto_names_the_package_and_does_not_fall_back(tmp_path: Path) -> None:
    with pytest.raises(MissingPart) as caught:
        await pick_runtime("auto", Paths.of(tmp_path), {"PATH": str(tmp_path)})
    assert "package bubblewrap" in str(caught.value)


async def test_a_bubblewrap_that_cannot_make_boxes_is_refused_with_what_it_said(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(MissingPart) as caught:
        await pick_runtime("bwrap", Paths.of(tmp_path), {"PATH": str(tmp_path)})
    assert "No permissions to create new namespace" in str(caught.value)


@pytest.mark.parametrize("name", ["nspawn", "nixos-container"])
async def test_runtimes_to_come_say_so(name: RuntimeName, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        await pick_runtime(name, Paths.of(tmp_path), {})


async def test_process_says_that_it_isolates_nothing(tmp_path: Path) -> None:
    runtime = await pick_runtime("process", Paths.of(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert runtime.isolation == "none"
    assert "no box" in " ".join(runtime.cautions)
    assert "disk" in runtime.unenforced
    await runtime.aclose()
