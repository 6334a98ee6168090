"""Rows that stay in the cache, and the ratio that spreads hues."""

from __future__ import annotations

import math
from collections.abc import Iterator

GOLDEN = (math.sqrt(5) - 1) / 2


def row_blocks(height: int, width: int, values: int) -> Iterator[slice]:
    """Slices of rows that hold about so many values, the first one the largest."""
    step = max(1, values // max(width, 1))
    return (slice(row, min(row + step, height)) for row in range(0, height, step))
