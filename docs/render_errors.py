"""docs/reference/errors.md: the tree of errors with their codes, from hyperhive.errors."""

import inspect

from hyperhive import errors
from hyperhive.errors import HiveError
from render_types import doc, table


def _below(cls: type[HiveError]) -> list[type[HiveError]]:
    direct = [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return [found for sub in direct for found in (sub, *_below(sub))]


def _family(cls: type[HiveError]) -> str:
    line = [base for base in inspect.getmro(cls) if issubclass(base, HiveError) and base is not HiveError]
    return line[-1].__name__


def render() -> str:
    """The page."""
    rows = [(f"`{cls.code}`", f"`{cls.__name__}`", _family(cls), doc(cls)) for cls in _below(HiveError)]
    return f"""# Errors

Every error that HyperHive raises on purpose is a `hyperhive.HiveError`. It has a stable `code`, which goes over the
wire, a message in a plain sentence, and mostly a hint that says how to mend it. A `RequestError` means: mend the
request and ask again. A `WorldError` means: the request was fine, the world was not. A `BugError` is ours.

{table(("code", "class", "family", "means"), rows)}
"""
