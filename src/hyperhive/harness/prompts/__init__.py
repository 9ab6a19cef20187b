"""The texts that a hive gives its agents, as package files: role prompts and the wake prompt."""

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """The text of `name.md` in this package."""
    return files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")


def fill(template: str, /, **values: str) -> str:
    """The text with every `{key}` replaced by its value; other braces stay as they are."""
    for key, value in values.items():
        template = template.replace("{" + key + "}", value)
    return template
