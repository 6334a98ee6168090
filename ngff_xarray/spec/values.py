"""Which JSON values are numbers and colours."""

from __future__ import annotations

import math
from typing import TypeGuard

from ngff_xarray.model import RGB


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a JSON value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_rgba(value: object) -> TypeGuard[list[int]]:
    """Tell whether a JSON value is a colour: four integers of 0 to 255."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    )


def hex_color(value: object) -> RGB | None:
    """Return the colour that ``RRGGBB`` names, with or without ``#``, or None.

    Examples
    --------
    >>> hex_color("00FF7f"), hex_color("#FFF"), hex_color(12)
    ((0, 255, 127), None, None)
    """
    if not isinstance(value, str):
        return None
    digits = value.removeprefix("#")
    if len(digits) != 6 or not set(digits.lower()) <= set("0123456789abcdef"):
        return None
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def is_relative(path: str) -> bool:
    """Tell whether a path stays below its group."""
    parts = path.strip("/").split("/")
    return not path.startswith("/") and all(part not in ("", ".", "..") for part in parts)
