"""docs/reference/config.md."""


def render() -> str:
    """The page."""
    return ""
