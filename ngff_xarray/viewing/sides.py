"""How the wells of a plate follow each other, level by level, in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import xarray as xr

from ngff_xarray import geometry, image, units

_GAP = 0.04  # of a well, on each of its sides
_MARGIN = 0.055  # of the whole, for the names of rows and columns, and a canvas's buttons
_SMALLEST = 24  # pixels of a well and its gap in the coarsest level
_UNEVEN = 0.03  # of a pixel of labels may stand over others of the image than of a whole number


@dataclass(frozen=True)
class Side:
    """How wells follow each other along one axis of a level, in its pixels.

    Parameters
    ----------
    pitch
        From each well to the next.
    lead
        The gap before the pixels of a well.
    size
        The pixels of a well.
    margin
        What lies before the first well's place, and after the last one's.
    count
        How many wells there are.
    """

    pitch: int
    lead: int
    size: int
    margin: int
    count: int

    @property
    def hidden(self) -> int:
        """Whole places that the margin lies on."""
        return -(-self.margin // self.pitch)

    @property
    def cut(self) -> int:
        """How much of those is not seen."""
        return self.hidden * self.pitch - self.margin

    @property
    def total(self) -> int:
        """All pixels that are seen."""
        return self.pitch * self.count + 2 * self.margin

    def first(self, place: int) -> int:
        """Return the first pixel of a well."""
        return self.margin + place * self.pitch + self.lead

    def spans(self, wanted: range) -> Iterator[tuple[int, slice, slice]]:
        """Yield each place among some pixels: its number, where it goes, which pixels of a well.

        ``wanted`` counts from the first of the hidden places.
        """
        first = wanted.start // self.pitch - self.hidden
        last = wanted[-1] // self.pitch - self.hidden
        for place in range(max(first, 0), min(last, self.count - 1) + 1):
            top = (place + self.hidden) * self.pitch + self.lead
            start = max(-((wanted.start - top) // wanted.step), 0)
            stop = min(-((wanted.start - top - self.size) // wanted.step), len(wanted))
            if start < stop:
                begin = wanted.start + start * wanted.step - top
                end = wanted.start + (stop - 1) * wanted.step - top + 1
                yield place, slice(start, stop), slice(begin, end, wanted.step)


@dataclass(frozen=True)
class PlateLevel:
    """A level of the plate.

    Parameters
    ----------
    number
        Which level of the wells it shows.
    reduced
        Every how many of its pixels.
    down, right
        How wells follow each other.
    """

    number: int
    reduced: int
    down: Side
    right: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.down, self.right


def plate_levels(arrays: Sequence[xr.DataArray], counts: tuple[int, int]) -> list[PlateLevel]:
    """Return the levels of a plate: those of its wells, and coarser ones down to a few pixels.

    Parameters
    ----------
    arrays
        The levels of a well.
    counts
        The rows and columns of the plate.
    """
    dims = image.plane_dims(arrays[0])
    steps = _steps(arrays)
    down, right = (
        _sides([_size(arrays[n].sizes[dim], by) for n, by in steps], count)
        for dim, count in zip(dims, counts, strict=True)
    )
    margin = _MARGIN * max(down[0].pitch * down[0].count, right[0].pitch * right[0].count)
    return [
        PlateLevel(n, by, _with_margin(one, down[0], margin), _with_margin(two, right[0], margin))
        for (n, by), one, two in zip(steps, down, right, strict=True)
    ]


def levels_over(
    arrays: Sequence[xr.DataArray], whole: xr.DataArray, finest: PlateLevel
) -> list[PlateLevel]:
    """Return the levels in which the label images of all wells lie over their images.

    Those whose pixels do not fit into whole ones of the images' finest level are left out.

    Parameters
    ----------
    arrays
        The levels of a label image of a well.
    whole
        The finest level of its image.
    finest
        That of the plate.
    """
    found = []
    for n, by in _steps(arrays):
        both = zip(image.plane_dims(whole), image.plane_dims(arrays[n]), finest.sides, strict=True)
        down, right = (_side_over(side, whole[a], arrays[n][b], by) for a, b, side in both)
        if down is not None and right is not None:
            found.append(PlateLevel(n, by, down, right))
    return found


def _side_over(finest: Side, whole: xr.DataArray, own: xr.DataArray, by: int) -> Side | None:
    """Return how labels follow each other along an axis that lies over one of the images'."""
    pixel = geometry.pixel_size(whole) or 1.0
    unit = units.factor(geometry.unit(own), geometry.unit(whole))
    ratio = (geometry.pixel_size(own) or 1.0) * unit * by / pixel
    factor = max(1, round(ratio))
    beside = abs(geometry.edges(own)[0] * unit - geometry.edges(whole)[0]) / pixel
    is_whole = not finest.lead % factor and not finest.pitch % factor
    size = _size(own.size, by)
    if abs(ratio - factor) > _UNEVEN * factor or beside > factor or not is_whole:
        return None
    if size > (finest.pitch - finest.lead) // factor:
        return None
    coarser = replace(finest, pitch=finest.pitch // factor, lead=finest.lead // factor, size=size)
    return _with_margin(coarser, finest, finest.margin)


def _steps(arrays: Sequence[xr.DataArray]) -> list[tuple[int, int]]:
    """Return which level of the wells each of the plate's shows, and every how many pixels."""
    last = [arrays[-1].sizes[dim] for dim in image.plane_dims(arrays[-1])]
    most = max(min(last) // _SMALLEST, 1)
    reductions = [2**n for n in range(1, most.bit_length())]
    return [*((n, 1) for n in range(len(arrays))), *((len(arrays) - 1, by) for by in reductions)]


def _size(size: int, by: int) -> int:
    return -(-size // by)


def _sides(sizes: Sequence[int], count: int) -> list[Side]:
    """Return how wells follow each other, in the same proportions at every level."""
    factors = [max(1, round(sizes[0] / size)) for size in sizes]
    coarsest = max(factors)
    lead = max(1, math.ceil(_GAP * sizes[0] / coarsest)) * coarsest
    pitch = math.ceil(sizes[0] / coarsest) * coarsest + 2 * lead
    found = []
    for size, factor in zip(sizes, factors, strict=True):
        before = lead // factor
        found.append(Side(max(round(pitch / factor), before + size), before, size, 0, count))
    return found


def _with_margin(side: Side, finest: Side, margin: float) -> Side:
    return replace(side, margin=max(1, round(margin * side.pitch / finest.pitch)))
