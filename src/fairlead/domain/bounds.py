"""Numbers that people declare have bounds."""

from __future__ import annotations

from fairlead.domain.errors import InvalidInput


def check_between(
    where: str, value: float, least: float, most: float, *, above: bool = False
) -> None:
    """Raises InvalidInput with the place of a number that is out of its bounds, or none.

    Args:
        above: Whether the least one is out of them, too.
    """
    if not least <= value <= most or (above and value == least):
        bounds = f"above {least:g} and at most" if above else f"between {least:g} and"
        raise InvalidInput(f"{where}: {value:g} is not {bounds} {most:g}")
