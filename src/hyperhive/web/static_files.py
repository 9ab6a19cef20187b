"""The built pages: read into memory whole, so that no request's path ever opens a file.

Files below `assets/` have their content's hash in their name and are cached for good; all else is asked for anew. Where
nothing was built, the one page there is says how to build it.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
_PACKED: Final = frozenset({".html", ".js", ".css", ".svg", ".json", ".webmanifest"})
_FOR_GOOD: Final = "public, max-age=31536000, immutable"

NOT_BUILT: Final = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>HyperHive</title>
<h1>The hive is up; its pages are not built</h1>
<p>This is a checkout whose front end was not built yet. In its directory, run:</p>
<pre>make pages</pre>
<p>and load this page again. An installed hive brings its pages along.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent; `packed`: gzipped, where that is smaller."""

    body: bytes
    packed: bytes | None
    media_type: str
    cache: str


class StaticFiles:
    """The files below `root`, by their path from there."""

    def __init__(self, root: Path = STATIC) -> None:
        self._root = root
        self._files: dict[str, File] = {}
        self._stamp: int | None = None

    async def refresh(self) -> None:
        """Reads them again where they were built anew."""
        stamp = await anyio.to_thread.run_sync(_stamp, self._root / _INDEX)
        if stamp != self._stamp:
            self._files = await anyio.to_thread.run_sync(_read, self._root)
            self._stamp = stamp

    @property
    def index(self) -> File:
        """The page."""
        return self._files.get(_INDEX) or File(NOT_BUILT, None, _TYPES[".html"], "no-store")

    def find(self, path: str) -> File | None:
        """The file of this path, without a slash before it."""
        return self._files.get(path)


def _stamp(index: Path) -> int | None:
    try:
        return index.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _read(root: Path) -> dict[str, File]:
    found = {}
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        if path.suffix not in _TYPES or path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(root).as_posix()
        body = path.read_bytes()
        packed = gzip.compress(body, 9, mtime=0) if path.suffix in _PACKED else None
        cache = "no-store" if name == _INDEX else _FOR_GOOD if name.startswith("assets/") else "no-cache"
        small = packed is not None and len(packed) < len(body)
        found[name] = File(body, packed if small else None, _TYPES[path.suffix], cache)
    return found
