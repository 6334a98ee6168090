"""Which levels a pyramid has: their shapes, and what a pixel of each stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEARLY = math.sqrt(
    2
)  # an axis is halved if its pixels are nearer to the finest than to twice that


@dataclass(frozen=True)
class PlannedLevel:
    """A level of a pyramid.

    Parameters
    ----------
    shape
        Its pixels along each axis.
    factors
        How many pixels of the finest level one of them stands for, along each axis.
    step
        How many of the level before.
    """

    shape: tuple[int, ...]
    factors: tuple[int, ...]
    step: tuple[int, ...]

    def counts(
        self, finest: Sequence[int], start: Sequence[int], stop: Sequence[int]
    ) -> list[NDArray[np.intp]]:
        """Return how many pixels of the finest level there are, along each axis of a part."""
        found = []
        for size, factor, a, b in zip(finest, self.factors, start, stop, strict=True):
            edges = np.minimum(np.arange(a, b + 1) * factor, size)
            found.append(np.diff(edges))
        return found


def plan(
    shape: Sequence[int],
    pixel_sizes: Sequence[float | None],
    chunks: Sequence[int],
    *,
    levels: int | None = None,
) -> tuple[PlannedLevel, ...]:
    """Return the levels of a pyramid, the finest first.

    From level to level, those axes are halved whose pixels are the smallest, or nearly so: pixels
    become as long as they are wide first. It ends where a level fits into one chunk.

    Parameters
    ----------
    shape
        Of the finest level.
    pixel_sizes
        In one unit, along each axis; None for axes that are not reduced, like time and channels.
    chunks
        The size of a chunk along each axis.
    levels
        How many levels there are to be.

    Examples
    --------
    >>> [level.shape for level in plan((40, 512, 512), (2.0, 0.5, 0.5), (64, 64, 64))]
    [(40, 512, 512), (40, 256, 256), (40, 128, 128), (20, 64, 64)]
    """
    found = [PlannedLevel(tuple(shape), (1,) * len(shape), (1,) * len(shape))]
    while len(found) < (levels if levels is not None else math.inf):
        last = found[-1]
        reduced = [i for i, size in enumerate(pixel_sizes) if size is not None]
        if levels is None and all(last.shape[i] <= chunks[i] for i in reduced):
            break
        sizes = {
            i: float(pixel_sizes[i] or 0) * last.factors[i] for i in reduced if last.shape[i] > 1
        }
        if not sizes:
            break
        smallest = min(sizes.values())
        step = tuple(
            2 if i in sizes and sizes[i] <= _NEARLY * smallest else 1 for i in range(len(shape))
        )
        found.append(below(last, step))
    return tuple(found)


def below(level: PlannedLevel, step: Sequence[int]) -> PlannedLevel:
    """Return the level that has one pixel for so many of a level."""
    return PlannedLevel(
        tuple(-(-n // f) for n, f in zip(level.shape, step, strict=True)),
        tuple(n * f for n, f in zip(level.factors, step, strict=True)),
        tuple(step),
    )
