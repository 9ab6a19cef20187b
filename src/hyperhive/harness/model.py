"""Which model an agent's next turn uses: what was set at run time, else its config's, else the default."""

from collections.abc import Callable

from hyperhive.config import DEFAULT_MODEL
from hyperhive.harness.files import LineFile


class ModelChoice:
    """One agent's model. `config` gives its config's; `tell` is called with the model whenever it may have changed."""

    def __init__(self, file: LineFile, config: Callable[[], str | None], tell: Callable[[str], None]) -> None:
        self._file = file
        self._config = config
        self._tell = tell
        self._set: str | None = None

    @property
    def current(self) -> str:
        """The model of the next turn."""
        return self._set or self._config() or DEFAULT_MODEL

    async def restore(self) -> None:
        """Read what was set in an earlier life."""
        kept = await self._file.read()
        if self._set is None:  # else somebody set one while we read
            self._set = kept
        self._tell(self.current)

    async def set(self, model: str) -> str | None:
        """Use `model` from the next turn on, for good. Returns a warning where it could not be kept on disk."""
        self._set = model
        self._tell(model)
        return await self._file.write(model)

    async def forget(self) -> str | None:
        """What was set counts no more. Returns a warning where that could not be kept on disk."""
        self._set = None
        self._tell(self.current)
        return await self._file.write("")

    def refresh(self) -> None:
        """The config may have changed."""
        self._tell(self.current)
