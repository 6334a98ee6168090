"""What is drawn around the wells of a plate, and said of its places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.text import printable
from ngff_xarray.viewing.affine import Affine
from ngff_xarray.viewing.layers import Layer, LayerLevel
from ngff_xarray.viewing.sides import PlateLevel, Side
from ngff_xarray.viewing.signs import Sign, draw_signs
from ngff_xarray.viewing.wells import PlateWells, Spot

_MOST_SAMPLED = 12  # wells
_SAMPLED = 64  # pixels of a well: coarser levels have lost their peaks
_NAMED = 64  # pixels of a well that bears its name

GROUND = (52, 52, 52)
MISSING = (84, 84, 84)
BROKEN, MARK = (84, 40, 40), (235, 80, 60)


class PlateScenery:
    """The gaps between wells, the names of rows and columns, and the marks of what is not there.

    Parameters
    ----------
    wells
        The wells.
    levels
        How they follow each other in each level.
    placed
        Where those lie in the world.
    """

    def __init__(
        self, wells: PlateWells, levels: Sequence[PlateLevel], placed: Sequence[LayerLevel]
    ) -> None:
        self._wells, self._levels = wells, levels
        self._sides = (levels[0].down, levels[0].right)
        affine = placed[0].affine()
        self._pixel = (abs(affine.d), abs(affine.a))

    @property
    def revision(self) -> int:
        """Another number once wells that were marked turned out fine."""
        return self._wells.revision

    def spot(self, x: float, y: float) -> Spot | None:
        """Return the row and column of the place at a point of the world, None beside the plate."""
        found = [
            math.floor(at / (side.pitch * pixel))
            for at, side, pixel in zip((y, x), self._sides, self._pixel, strict=True)
        ]
        inside = all(0 <= n < side.count for n, side in zip(found, self._sides, strict=True))
        return (found[0], found[1]) if inside else None

    def well(self, x: float, y: float) -> str | None:
        """Return the path of the well at a point of the world, or None."""
        spot = self.spot(x, y)
        found = None if spot is None else self._wells.at.get(spot)
        return None if found is None else found.path

    def middle(self, path: str) -> tuple[float, float]:
        """Return the point of the world in the middle of a well."""
        spot = next(spot for spot, well in self._wells.at.items() if well.path == path)
        y, x = (
            (n * side.pitch + side.lead + side.size / 2) * pixel
            for n, side, pixel in zip(spot, self._sides, self._pixel, strict=True)
        )
        return x, y

    def at(self, x: float, y: float) -> tuple[str, float, float]:
        """Return the name of the well at a point, and the coordinates in it."""
        spot = self.spot(x, y)
        if spot is None:
            return "beside the wells", x, y
        row, column = (
            printable(names[n], 20)
            for names, n in zip((self._wells.rows, self._wells.columns), spot, strict=True)
        )
        where = f"row {row}, column {column}"
        well = self._wells.at.get(spot)
        inner = [
            at - (n * side.pitch + side.lead) * pixel - pixel / 2
            for at, n, side, pixel in zip((y, x), spot, self._sides, self._pixel, strict=True)
        ]
        if well is None:
            return f"no well ({where})", inner[1], inner[0]
        name = f"well {printable(well.path, 40)} ({where})"
        if well.path in self._wells.problems:
            name += " cannot be read"
        elif well.path in self._wells.missing:
            name += " is not in the store"
        return name, inner[1], inner[0]

    def samples(self, layer: Layer) -> tuple[LayerLevel, list[tuple[int, int, int, int]]]:
        """Return a level, and the pixels of some wells in it, spread over the plate."""
        native = len(self._wells.field.levels)
        large = [n for n in range(native) if self._levels[n].right.size >= _SAMPLED]
        number = large[-1] if large else 0
        spots = list(self._wells.at)
        every = max(1, len(spots) // _MOST_SAMPLED)
        some = [*spots[::every][: 2 * _MOST_SAMPLED], self._wells.first]
        tried = {self._wells.at[spot].path: spot for spot in some}
        found = [tried[path] for path in self._wells.there(list(tried), number)]
        level = self._levels[number]
        parts = [
            (top, top + level.down.size, left, left + level.right.size)
            for row, column in found[:_MOST_SAMPLED]
            for top, left in [(level.down.first(row), level.right.first(column))]
        ]
        return layer.levels[number], parts

    def painted(self, rgb: NDArray[np.uint8], matrix: Affine) -> NDArray[np.uint8]:
        """Return a picture with all that is no well in grey, and the names drawn."""
        out = np.empty_like(rgb)
        out[:] = GROUND
        height, width = rgb.shape[:2]
        signs = []
        rows = _Along.of(self._sides[0], self._pixel[0], matrix.d, matrix.f, height)
        columns = _Along.of(self._sides[1], self._pixel[1], matrix.a, matrix.e, width)
        problems, missing = self._wells.problems, self._wells.missing
        for row, column in itertools.product(rows.places, columns.places):
            well = self._wells.at.get((row, column))
            if well is None:
                continue
            part = np.s_[rows.pixels(row), columns.pixels(column)]
            if well.path in problems:
                _cross(out, rows.ends(row), columns.ends(column))
            elif well.path in missing:
                out[part] = MISSING
            else:
                out[part] = rgb[part]
            if min(rows.pitch, columns.pitch) >= _NAMED:
                left, top = columns.ends(column)[0], rows.ends(row)[0]
                signs.append(Sign(printable(well.path, 20), (left + 4, top + 3), 13, "la"))
        signs += _names(self._wells.rows, rows, columns, is_row=True)
        signs += _names(self._wells.columns, columns, rows, is_row=False)
        return draw_signs(out, signs)


@dataclass(frozen=True)
class _Along:
    """Where places lie along one axis of a picture, in its pixels."""

    pitch: float
    lead: float
    size: float
    margin: float
    start: float
    places: range
    length: int

    @classmethod
    def of(cls, side: Side, pixel: float, step: float, start: float, length: int) -> _Along:
        """Return them for a picture that begins at a point of the world."""
        scale = pixel / step
        pitch, first = side.pitch * scale, -start / step
        begin = max(math.floor(-first / pitch), 0)
        end = min(math.ceil((length - first) / pitch), side.count)
        lead, size, margin = (n * scale for n in (side.lead, side.size, side.margin))
        return cls(pitch, lead, size, margin, first, range(begin, max(begin, end)), length)

    def ends(self, place: int) -> tuple[int, int]:
        """Return the first and last-but-one pixel of a well, perhaps beside the picture."""
        first = self.start + place * self.pitch + self.lead
        return round(first), max(math.ceil(first + self.size - 1e-6), round(first) + 1)

    def pixels(self, place: int) -> slice:
        """Return the pixels of a well that the picture has."""
        first, end = self.ends(place)
        return slice(max(first, 0), max(min(end, self.length), 0))


def _names(names: Sequence[str], along: _Along, across: _Along, *, is_row: bool) -> Iterator[Sign]:
    """Yield the names of rows or columns in the margin before the wells: as many as have room."""
    size = min(0.55 * across.margin, 4 * along.pitch)
    longest = max((len(name) for name in names), default=1)
    needed = size * (1.2 if is_row else 0.75 * max(longest, 1.6))
    every = max(1, math.ceil(needed / along.pitch))
    if is_row:
        size = min(size, across.margin / (0.62 * max(longest, 1)))
    middle = across.start - across.margin / 2
    if size < 5 or not -across.margin < middle < across.length + across.margin:
        return
    for place in along.places:
        if place % every == 0:
            centre = along.start + (place + 0.5) * along.pitch
            at = (middle, centre) if is_row else (centre, middle)
            yield Sign(printable(names[place], 12), at, size, "mm")


def _cross(out: NDArray[np.uint8], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Draw a red cross over a place, as far as the picture has it."""
    top, bottom = max(rows[0], 0), min(rows[1], out.shape[0])
    left, right = max(columns[0], 0), min(columns[1], out.shape[1])
    if top >= bottom or left >= right:
        return
    y = (np.arange(top, bottom) - rows[0] + 0.5)[:, np.newaxis] / (rows[1] - rows[0])
    x = (np.arange(left, right) - columns[0] + 0.5) / (columns[1] - columns[0])
    wide = max(1 / (columns[1] - columns[0]), 0.012)
    marked = (np.abs(y - x) <= wide) | (np.abs(y - (1 - x)) <= wide)
    out[top:bottom, left:right] = np.where(marked[..., np.newaxis], MARK, BROKEN)
