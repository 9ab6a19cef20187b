"""One browser and one seeded hive for all tests of a file; a page of its own, and its faults, for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, StorageState

from web_jobs import Figures, Operator, operator_at, signed_in
from web_seed import BUSY, LARGE, Scale
from web_world import Watch, WebWorld, chromium, context_of, log_in, seeded_hive


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a file: its browser lives as long."""
    return "asyncio"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the seeded state is kept, so that it is made once a run."""
    return tmp_path_factory.mktemp("seed")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a hive with much in it."""
    return tmp_path_factory.mktemp("large")


@pytest.fixture(
    scope="module",
    params=[pytest.param(BUSY, id="busy"), pytest.param(LARGE, id="large", marks=pytest.mark.campaign)],
)
def scale(request: pytest.FixtureRequest) -> Scale:
    """How much is in it: less on every push than in the campaign."""
    found: Scale = request.param
    return found


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    del anyio_backend
    async with chromium() as one:
        yield one


@pytest.fixture(scope="module")
async def world(anyio_backend: str, template: Path) -> AsyncIterator[WebWorld]:
    """A running hive with a busy month behind it."""
    del anyio_backend
    async with seeded_hive(template) as one:
        yield one


@pytest.fixture
async def watch(browser: Browser, world: WebWorld) -> AsyncIterator[Watch]:
    """A page at a desk, signed in; the test fails where it logged an error or asked anybody but the hive."""
    async with context_of(browser) as context:
        one = await log_in(context, world)
        yield one
        assert not one.unexpected()


@pytest.fixture
async def phone(browser: Browser, world: WebWorld) -> AsyncIterator[Watch]:
    """The same on a phone."""
    async with context_of(browser, phone=True) as context:
        one = await log_in(context, world)
        yield one
        assert not one.unexpected()


# --- one operator, for the jobs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def login(browser: Browser, world: WebWorld) -> StorageState:
    """One login, for all operators of a file."""
    async with context_of(browser) as context:
        return await signed_in(context, world)


@pytest.fixture
async def desk(browser: Browser, world: WebWorld, login: StorageState) -> AsyncIterator[Operator]:
    """An operator at a desk, at the fleet, who has not touched anything."""
    async with operator_at(browser, world, login) as one:
        yield one


@pytest.fixture
async def handheld(browser: Browser, world: WebWorld, login: StorageState) -> AsyncIterator[Operator]:
    """The same on a phone."""
    async with operator_at(browser, world, login, phone=True) as one:
        yield one


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    """What the jobs of a file measured; written and printed at its end."""
    one = Figures()
    yield one
    one.write()
    print("\n" + "\n".join(map(str, one.found)))
