"""Boxes of pixels: a slice along each axis, forwards and without steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

Box = tuple[slice, ...]


def within(box: Sequence[slice], other: Sequence[slice]) -> Box:
    """Return a box as it lies in another one.

    Examples
    --------
    >>> within((slice(3, 5),), (slice(2, 9),))
    (slice(1, 3, None),)
    """
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, other, strict=True)
    )


def cut(box: Sequence[slice], unit: Sequence[int], together: int = 1) -> Iterator[Box]:
    """Cut a box along the edges of units.

    Parameters
    ----------
    box
        What to cut.
    unit
        The size of a unit along each axis; the first one begins at 0.
    together
        How many units a part has at the most, those along the last axis first.

    Examples
    --------
    >>> [part[0] for part in cut((slice(3, 9),), (4,))]
    [slice(3, 4, None), slice(4, 8, None), slice(8, 9, None)]
    """
    steps = []
    for side, size in zip(reversed(box), reversed(unit), strict=True):
        count = -(-side.stop // size) - side.start // size
        steps.append(max(1, min(count, together)))
        together //= steps[-1]
    sides = [
        _edges(side, size * step)
        for side, size, step in zip(box, unit, reversed(steps), strict=True)
    ]
    yield from itertools.product(*sides)


def are_sizes(sizes: Any, ndim: int) -> TypeGuard[tuple[int, ...]]:
    """Tell whether these are the sizes of the chunks of an array of so many axes.

    An encoding may be of another one: of before an axis was lost.
    """
    is_tuple = isinstance(sizes, tuple) and len(sizes) == ndim
    return is_tuple and all(isinstance(size, int) and size > 0 for size in sizes)


def count(box: Sequence[slice]) -> int:
    """Return how many pixels a box has."""
    return math.prod(side.stop - side.start for side in box)


def _edges(side: slice, step: int) -> list[slice]:
    edges = [side.start, *range((side.start // step + 1) * step, side.stop, step), side.stop]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if a < b]
