"""The texts that a hive gives its agents, as package files: role prompts and the wake prompt."""

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """The text of `name.md` in this package."""
    return files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")


def fill(template: str, /, **values: str) -> str:
    """`template.md` with every `{key}` replaced by its value; other braces stay as they are."""
    text = load(template)
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text
