"""How the hive's processes write their logs: structlog events, rendered for a file, for journald, or for a person.

Library modules log through the standard library (`log.info("agent_started agent=%s", name)`); here such a record
becomes an event with fields. Rendering and writing happen in a thread, so that no log line holds up the loop. Control
characters are made visible, tracebacks carry no local variables. Which things are logged is decided elsewhere.
"""

import logging
import logging.handlers
import queue
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import IO, Any, Final, Literal

import msgspec
import structlog

from hyperhive.paths import make_private
from hyperhive.terminal import visible, visible_json

Form = Literal["json", "text"]
EventDict = MutableMapping[str, Any]

FILE_NAME: Final = "hive.log"
FILE_BYTES: Final = 8 * 1024 * 1024
FILES_KEPT: Final = 5
"""The newest file and four older ones: at most 40 MiB of logs in all."""

_FIELD: Final = re.compile(r"(\w+)=%(?:\.\d+)?[srdgf]")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "context", "taskName"}
_NOISY: Final = ("asyncio", "mcp", "httpx", "httpx2", "httpcore2", "anyio")
"""Libraries of which only warnings are kept. The HTTP clients tell whole addresses, and a webhook's is a secret."""


@contextmanager
def configured(
    *, directory: Path | None = None, stream: IO[str] | None = None, form: Form = "json", level: str = "INFO",
    stream_level: str | None = None,
    file_name: str = FILE_NAME,
) -> Iterator[None]:  # fmt: skip
    """Logs of this process go where this says, until the block is left; then everything written is on its way.

    Args:
        directory: where the file (JSON, rotated, 0600) is kept; None: no file.
        stream: where else they go.
        form: how they look on the stream.
        level: from which level on anything is kept.
        stream_level: from which level on the stream shows it; by default `level`.
        file_name: of the file; each process has its own, for two would rotate it under each other.
    """
    handlers: list[logging.Handler] = []
    if directory is not None:
        handlers.append(_file_handler(directory / file_name, level))
    if stream is not None:
        handlers.append(_handler(logging.StreamHandler(stream), form, stream_level or level))
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, *handlers, respect_handler_level=True)
    entrance = _Entrance(waiting)
    root = logging.getLogger()
    before = root.level
    root.addHandler(entrance)
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel("WARNING")
    _configure_structlog()
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(entrance)
        root.setLevel(before)
        listener.stop()
        for handler in handlers:
            handler.close()


def stream_form(stream: IO[str], environ: Mapping[str, str]) -> Form:
    """JSON for machines (journald, a pipe), text for a person at a terminal."""
    under_systemd = "JOURNAL_STREAM" in environ or "INVOCATION_ID" in environ
    return "text" if stream.isatty() and not under_systemd else "json"


def event_of(record: logging.LogRecord) -> EventDict:
    """A record as an event: past-tense name, fields, time and level. `name key=%s` gives the fields their names."""
    event: dict[str, Any] = dict(getattr(record, "context", {}))
    words = str(record.msg).split(" ")
    fields = [_FIELD.fullmatch(word) for word in words[1:]]
    arguments = record.args if isinstance(record.args, tuple) else ()
    if fields and all(fields) and len(fields) == len(arguments):
        event["event"] = words[0]
        event |= {match[1]: value for match, value in zip(fields, arguments, strict=True) if match}
    else:
        event["event"] = record.getMessage()
    event |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    event["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    if record.exc_info and record.exc_info[0] is not None:
        event["exc_info"] = record.exc_info
    return event


class _Entrance(logging.handlers.QueueHandler):
    """Takes a record on whichever thread logs it, with the fields that are bound there."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.context = structlog.contextvars.get_contextvars()
        return record


class _Formatter(logging.Formatter):
    """Runs an event through structlog's processors."""

    def __init__(self, *processors: Callable[[Any, str, EventDict], Any]) -> None:
        super().__init__()
        self._processors = processors

    def format(self, record: logging.LogRecord) -> str:
        event: Any = event_of(record)
        for processor in self._processors:
            event = processor(None, record.levelname.lower(), event)
        return str(event)


def _plain(value: object) -> str:
    """A field's value that JSON has no form for."""
    return str(value) if isinstance(value, PurePath) else repr(value)


def _render_json(_logger: object, _level: str, event: EventDict) -> str:
    head = {key: event.pop(key, None) for key in ("timestamp", "level", "event")}
    return visible_json(msgspec.json.encode({**head, **event}, enc_hook=_plain).decode())


def _render_text(_logger: object, _level: str, event: EventDict) -> str:
    trace = str(event.pop("exception", ""))
    head = f"{str(event.pop('timestamp'))[11:19]} {event.pop('level'):<8} {event.pop('event')}"
    event.pop("logger", None)
    line = visible(" ".join([head, *(f"{key}={value}" for key, value in event.items())]))
    return "\n".join([line, *("    " + visible(row) for row in trace.rstrip().splitlines())])


def _handler(handler: logging.Handler, form: Form, level: str) -> logging.Handler:
    if form == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        handler.setFormatter(_Formatter(structlog.processors.ExceptionRenderer(without_locals), _render_json))
    else:
        handler.setFormatter(_Formatter(structlog.processors.format_exc_info, _render_text))
    handler.setLevel(level)
    return handler


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotated file that only its owner can read."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        def private(path: str, flags: int) -> int:
            import os

            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=private)


def _file_handler(path: Path, level: str) -> logging.Handler:
    make_private(path.parent)
    file = _PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT - 1, encoding="utf-8")
    return _handler(file, "json", level)


def _configure_structlog() -> None:
    """Events of structlog's own loggers (entry points use them) take the same way as everybody's."""

    def to_stdlib(_logger: object, _level: str, event: EventDict) -> tuple[tuple[Any, ...], dict[str, Any]]:
        name = event.pop("event", "")
        exc_info = event.pop("exc_info", None)
        extra = {f"{key}_" if key in _STANDARD else key: value for key, value in event.items()}
        return (str(name),), {"extra": extra, "exc_info": exc_info}

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, to_stdlib],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
