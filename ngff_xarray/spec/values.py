"""Which JSON values are numbers, colours and paths."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

from ngff_xarray.model import RGB

_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")


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
        # there may be millions: an int is told at a glance
        and all(
            0 <= part <= 255 if type(part) is int else is_integer(part, 0) and part <= 255
            for part in value
        )
    )


def parse_color(text: object) -> RGB | None:
    """Red, green and blue of a hexadecimal colour; None when it is not one.

    Parameters
    ----------
    text
        Three, six or eight hexadecimal digits, with or without a leading ``#``, as in
        ``omero.channels[].color``. The alpha in eight digits is ignored. Any other object is
        no colour, and no error: metadata from elsewhere holds all sorts of things here.

    Examples
    --------
    >>> parse_color("00FF7f"), parse_color("#0f0"), parse_color("FF0000FF")
    ((0, 255, 127), (0, 255, 0), (255, 0, 0))
    >>> parse_color("green") is None
    True
    """
    match = _HEX_COLOR.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    digits = match[1] if len(match[1]) > 3 else "".join(2 * digit for digit in match[1])
    red, green, blue = bytes.fromhex(digits)[:3]
    return red, green, blue


_LONGEST = 1024  # bytes of a key, in any store


def is_relative(path: str) -> bool:
    """Tell whether a path stays below its group, and can be a key of a store."""
    if len(path) > _LONGEST:
        return False
    parts = path.strip("/").split("/")
    return not path.startswith("/") and all(part not in ("", ".", "..") for part in parts)


def is_integer(value: object, least: int | None = None) -> TypeGuard[int]:
    """Tell whether a JSON value is a whole number (2.0 is one), not below the least."""
    if not is_number(value) or value != int(value):
        return False
    return least is None or value >= least


def repeated(values: Iterable[Any]) -> Any | None:
    """Return a JSON value that stands twice in a list, or None."""
    seen = set()
    for value in values:
        key = json.dumps(value, sort_keys=True, default=repr)
        if key in seen:
            return value
        seen.add(key)
    return None
