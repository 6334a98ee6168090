"""The blocks that an image is cut into, and what of their surroundings each of them sees."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, units
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable

Boundary = Literal["clip", "reflect"]

_BYTES = 2**23  # of a block without its halo, unless it is told
_PIXELS = re.compile(r"\s*([-+]?[\d.]+)\s*(px|pixels?)\s*")


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an image.

    Parameters
    ----------
    number, place
        Which it is, in the order of memory and along each axis.
    core
        Its pixels.
    outer
        Those with the halo, as far as the image has them.
    pad
        How many pixels of the halo lie beyond the image, before and after, and are reflected.
    """

    number: int
    place: tuple[int, ...]
    core: Box
    outer: Box
    pad: tuple[tuple[int, int], ...]

    @property
    def inner(self) -> Box:
        """Where the core lies in the block with its halo."""
        return tuple(
            slice(c.start - o.start + before, c.stop - o.start + before)
            for c, o, (before, _) in zip(self.core, self.outer, self.pad, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Blocks:
    """All blocks of an image.

    Parameters
    ----------
    shape
        That of the image.
    size
        Pixels of a block along each axis; the last ones may have fewer.
    halo
        Pixels around it that it sees as well.
    boundary
        What a block sees beyond the ends of the image: nothing (``"clip"``), or the image
        reflected.

    Examples
    --------
    >>> blocks = Blocks((5, 3), (2, 3), (1, 0), "clip")
    >>> blocks.grid, blocks[1].core[0], blocks[1].outer[0], blocks[1].inner[0]
    ((3, 1), slice(2, 4, None), slice(1, 5, None), slice(1, 3, None))
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    halo: tuple[int, ...]
    boundary: Boundary

    @property
    def grid(self) -> tuple[int, ...]:
        """How many blocks there are along each axis."""
        return tuple(-(-n // size) for n, size in zip(self.shape, self.size, strict=True))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.at(tuple(int(i) for i in np.unravel_index(number, self.grid)))

    def at(self, place: tuple[int, ...]) -> Block:
        """Return the block at a place."""
        core = tuple(
            slice(i * size, min((i + 1) * size, n))
            for i, size, n in zip(place, self.size, self.shape, strict=True)
        )
        number = int(np.ravel_multi_index(place, self.grid)) if place else 0
        return replace(self.around(core), number=number, place=place)

    def around(self, core: Box) -> Block:
        """Return a box as a block, with its halo."""
        outer, pad = [], []
        for side, n, halo in zip(core, self.shape, self.halo, strict=True):
            first, last = max(0, side.start - halo), min(n, side.stop + halo)
            beyond = (first - side.start + halo, side.stop + halo - last)
            outer.append(slice(first, last))
            pad.append(beyond if self.boundary == "reflect" else (0, 0))
        return Block(0, (0,) * len(core), core, tuple(outer), tuple(pad))

    def sides(self) -> list[list[slice]]:
        """Return those of the blocks with their halos, along each axis."""
        corners = [
            [tuple(i if a == axis else 0 for a in range(len(self.grid))) for i in range(n)]
            for axis, n in enumerate(self.grid)
        ]
        return [
            [self.at(place).outer[axis] for place in along] for axis, along in enumerate(corners)
        ]

    def within(self, box: Sequence[slice]) -> Iterator[Block]:
        """Yield the blocks that have pixels in a box."""
        touched = [
            range(side.start // size, -(-side.stop // size))
            for side, size in zip(box, self.size, strict=True)
        ]
        return map(self.at, itertools.product(*touched))

    def neighbours(self, block: Block, axes: Sequence[int]) -> Iterator[Block]:
        """Yield the neighbours of a block along some axes, corners too."""
        steps = [(-1, 0, 1) if axis in axes else (0,) for axis in range(len(self.shape))]
        for step in itertools.product(*steps):
            place = tuple(i + s for i, s in zip(block.place, step, strict=True))
            is_there = all(0 <= i < n for i, n in zip(place, self.grid, strict=True))
            if is_there and place != block.place:
                yield self.at(place)


def planned(
    array: xr.DataArray, block: Any, halo: Any, unit: Sequence[int], boundary: Boundary
) -> Blocks:
    """Return the blocks of an image.

    Parameters
    ----------
    array
        The image.
    block
        How large they are: a length for all axes of space, a dict by axis, or None for some 8 MB.
        They become whole units. Along other axes a block is one pixel, but all channels.
    halo
        How far beyond its ends a block sees, as ``block``; along axes that are not told nothing.
    unit
        Pixels along each axis of what is written at a time.
    boundary
        What is seen beyond the ends of the image.

    Raises
    ------
    SelectionError
        If a halo is as large as a block, or there is no such axis.
    UnitError
        If a length cannot be understood.
    """
    if boundary not in ("clip", "reflect"):
        raise SelectionError(f"boundary={printable(boundary, 40)!r}: expected 'clip' or 'reflect'")
    axes = {axis.name: axis.type for axis in image.axes(array)}
    told, around = pixels(array, "block", block), pixels(array, "halo", halo)
    size = []
    for (name, kind), n, least in zip(axes.items(), array.shape, unit, strict=True):
        if kind == "channel":
            size.append(n)
        elif name in told:
            size.append(-(-max(1, told[name]) // least) * least)
        else:
            size.append(least if kind == "space" else 1)
    size = [min(a, max(n, 1)) for a, n in zip(size, array.shape, strict=True)]
    if block is None:
        size = _grown(size, array, [kind == "space" for kind in axes.values()])
    margins = [around.get(name, 0) for name in axes]
    for name, n, length, margin in zip(axes, array.shape, size, margins, strict=True):
        if margin > length and length < n:
            raise SelectionError(
                f"halo: {margin} pixels along {name} are more than the {length} of a block: give a "
                "smaller halo or a larger block="
            )
    return Blocks(tuple(array.shape), tuple(size), tuple(margins), boundary)


def pixels(array: xr.DataArray, what: str, lengths: Any) -> dict[str, int]:
    """Return lengths in whole pixels, by axis; a single length is for all axes of space.

    Parameters
    ----------
    array
        An image.
    what
        What to call them in errors.
    lengths
        ``"8 µm"``, a quantity, a number in the axis's unit, ``"12 px"``, a dict of these by axis,
        or None.

    Examples
    --------
    >>> x = xr.Variable("x", [0.0, 0.5, 1.0], {"units": "micrometer"})
    >>> array = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), coords={"x": x})
    >>> pixels(array, "halo", {"x": "1.2 µm"}), pixels(array, "halo", "2 px")
    ({'x': 3}, {'y': 2, 'x': 2})
    """
    if lengths is None:
        return {}
    kinds = {axis.name: axis.type for axis in image.axes(array) if axis.type != "channel"}
    if not isinstance(lengths, Mapping):
        lengths = {name: lengths for name, kind in kinds.items() if kind == "space"}
    unknown = [name for name in lengths if name not in kinds]
    if unknown:
        raise SelectionError(
            f"{what}: there is no axis {printable(unknown[0], 40)!r} to give a length along; the "
            f"axes are {', '.join(kinds)}"
        )
    return {name: _pixels(array[name], what, length) for name, length in lengths.items()}


def _pixels(coordinate: xr.DataArray, what: str, length: Any) -> int:
    counted = _PIXELS.fullmatch(length) if isinstance(length, str) else None
    if counted is not None:
        if not counted[1].isdecimal():
            raise SelectionError(
                f"{what}: {coordinate.name}: expected a whole number of pixels, found "
                f"{printable(length, 40)!r}"
            )
        return int(counted[1])
    step = geometry.pixel_size(coordinate) or 1.0
    found = units.magnitude(length, geometry.unit(coordinate)) / step
    if not 0 <= found < math.inf:
        raise SelectionError(
            f"{what}: {coordinate.name}: expected a length, found {printable(length, 40)!r}"
        )
    return math.ceil(found - 1e-6)


def _grown(size: list[int], array: xr.DataArray, is_space: Sequence[bool]) -> list[int]:
    """Return a block of whole units that is as large as is good to work on at a time."""
    steps = list(size)
    while True:
        room = _BYTES // max(1, math.prod(size) * array.dtype.itemsize)
        short = [
            (a, i)
            for i, (a, n) in enumerate(zip(size, array.shape, strict=True))
            if is_space[i] and a < n and a // steps[i] + 1 <= room * (a // steps[i])
        ]
        if room < 2 or not short:
            return size
        axis = min(short)[1]
        size[axis] = min(2 * size[axis], array.shape[axis])
