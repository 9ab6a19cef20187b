"""docs/reference/cli.md."""


def render() -> str:
    """The page."""
    return ""
