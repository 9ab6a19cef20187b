"""Makes the pictures of docs/img anew: a seeded hive, a real browser, one PNG a screen.

`python tests/web/screenshots.py` (needs Chromium, git and the built pages; a minute). Nothing is retouched; what
differs from run to run is the time of day and the ages. Fails where a picture is heavier than the docs want to carry.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from web_jobs import propose  # noqa: E402
from web_world import Scheme, Watch, WebWorld, chromium, context_of, log_in, seeded_hive  # noqa: E402

OUT = ROOT / "docs" / "img"
MOST_BYTES = 150_000
AGENT_TOML = 'model = "sonnet"\n\n[tools]\nask = ["WebFetch", "Bash(git push:*)"]\n'
RULES = (
    "# How you work\n\n- Read before you change.\n- Run the tests; say which.\n- Push nothing on a Friday.\n"
)


@dataclass(frozen=True)
class Picture:
    """One screen; `PATH` with what the scene made: `{agent}`, `{approval}`."""

    name: str
    path: str
    phone: bool = False
    scheme: Scheme = "light"
    height: int = 720


PICTURES = (
    Picture("fleet", "/", height=680),
    Picture("fleet-phone", "/", phone=True, scheme="dark"),
    Picture("needs-you", "/needs-you", scheme="dark"),
    Picture("agent", "/agents/{agent}"),
    Picture("agent-phone", "/agents/{agent}", phone=True),
    Picture("turns", "/agents/{agent}/turns?failed=1"),
    Picture("approval", "/approvals/{approval}"),
    Picture("approval-phone", "/approvals/{approval}", phone=True, scheme="dark"),
    Picture("messages", "/messages?agent={agent}", height=600),
    Picture("stats", "/agents/{agent}/stats?window=30d"),
)


async def scene(world: WebWorld) -> dict[str, str]:
    """Something to decide and somebody at work, beside what is seeded."""
    await world.cli("start", "manager")
    first, *others = world.seeded.agents
    for name in others[6:9]:
        await world.tell(name, "[[say I look at the failing upload test first.]][[sleep 120]]")
    number = await propose(world, others[3], {"agent.toml": AGENT_TOML, "CLAUDE.md": RULES})
    return {"agent": first, "approval": str(number)}


async def take(watch: Watch, picture: Picture, made: dict[str, str]) -> None:
    """The picture, once the screen stands still."""
    if not picture.phone:
        await watch.page.set_viewport_size({"width": 1200, "height": picture.height})
    await watch.open(picture.path.format(**made))
    await watch.page.evaluate("() => document.fonts.ready")
    await watch.page.evaluate("() => new Promise(done => setTimeout(done, 700))")
    path = OUT / f"{picture.name}.png"
    await watch.page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}  {size // 1024} KiB")
    assert not await watch.overflow(), f"{picture.name}: wider than its window"


async def main() -> None:
    """All of them, from one hive."""
    with TemporaryDirectory() as template:
        async with seeded_hive(Path(template)) as world, chromium() as browser:
            made = await scene(world)
            for phone, scheme in sorted({(one.phone, one.scheme) for one in PICTURES}):
                async with context_of(browser, phone=phone, scheme=scheme, motion=False) as context:
                    watch = await log_in(context, world)
                    for picture in PICTURES:
                        if (picture.phone, picture.scheme) == (phone, scheme):
                            await take(watch, picture, made)
    heavy = [path.name for path in OUT.glob("*.png") if path.stat().st_size > MOST_BYTES]
    assert not heavy, f"too heavy for the docs: {heavy}"


if __name__ == "__main__":
    anyio.run(main)
