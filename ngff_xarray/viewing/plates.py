"""The wells of a plate as one image, whose pixels are read well by well."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, groups, image, lazy, pyramid, read
from ngff_xarray.errors import SelectionError
from ngff_xarray.model import Well
from ngff_xarray.mosaic import MAX_CELLS
from ngff_xarray.text import printable
from ngff_xarray.viewing.affine import Affine
from ngff_xarray.viewing.cache import Loader, Lru
from ngff_xarray.viewing.layers import Layer, LayerLevel, World, make_world
from ngff_xarray.viewing.signs import Sign, draw_signs

Array = NDArray[Any]
Spot = tuple[int, int]
"""The row and the column of a well."""

_GAP = 0.04  # of a well, on each of its sides
_MARGIN = 0.055  # of the whole, for the names of rows and columns, and a canvas's buttons
_SMALLEST = 24  # pixels of a well and its gap in the coarsest level
_READERS = 16  # wells that are read at a time
_KEPT = 128e6  # bytes of the coarsest planes of wells
_MOST_SAMPLED = 12  # wells
_SAMPLED = 64  # pixels of a well: coarser levels have lost their peaks
_MOST_PIXELS = 2**24  # along rows and columns: each has a coordinate
_NAMED = 64  # pixels of a well that bears its name

_GROUND = (52, 52, 52)
_MISSING = (84, 84, 84)
_BROKEN, _MARK = (84, 40, 40), (235, 80, 60)


class PlateWells:
    """The wells of a plate: where they lie, and their pixels, opened when they are needed.

    Parameters
    ----------
    tree
        The plate.
    number
        Which field of every well.

    Raises
    ------
    SelectionError
        If the plate lists no well, or too many.
    NgffError
        If no well can be read.
    """

    def __init__(self, tree: xr.DataTree, number: int = 0) -> None:
        plate = groups.plate(tree)
        self.rows, self.columns = plate.rows, plate.columns
        count = len(self.rows) * len(self.columns)
        if count > MAX_CELLS:
            raise SelectionError(
                f"{len(self.rows)} rows and {len(self.columns)} columns are {count} places, more "
                f"than {MAX_CELLS}: view a well of it, with .ngff.well(path).ngff.view()"
            )
        self.at: Mapping[Spot, Well] = dict(_placed(plate.wells, self.rows, self.columns))
        self.number = number
        self.problems: dict[str, str] = {}
        """Why wells cannot be shown, by path."""
        self.missing: set[str] = set()
        """Wells that are listed and not there."""
        self.told: Callable[[], None] = lambda: None
        """Is called when there are more problems."""
        self._tree = tree
        self._lock = threading.Lock()
        self._fields: dict[str, read.FieldPlace | None] = {}
        self._arrays: dict[tuple[str, int], xr.Variable] = {}
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="ngff-wells")
        path, self.first = self._first()
        self.levels = image.levels(self.first)
        self._paths = image.level_paths(self.first)
        self._arrays.update(((path, n), level.variable) for n, level in enumerate(self.levels))

    def each(self, act: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Do something with each of some items, in threads if there are several."""
        if len(items) > 1:
            list(self._pool.map(act, items))
        elif items:
            act(items[0])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _first(self) -> tuple[str, xr.DataTree]:
        """Return the first well that can be read: its path and its field."""
        problem: Exception | None = None
        for well in self.at.values():
            try:
                found = groups.field(self._tree, well.path, self.number)
            except Exception as error:  # whatever a store raises: the next one may be fine
                problem = problem or error
                continue
            if found is not None:
                return well.path, found
        if problem is not None:
            raise problem
        raise SelectionError("none of the plate's wells is in the store: there is nothing to view")

    def level(self, path: str, number: int) -> xr.Variable | None:
        """Return a level of a well's field, lazily indexed; None if the well is not there."""
        known = self._arrays.get((path, number))
        if known is None:
            known = self._open(path, number)
            if known is not None:
                self._arrays[path, number] = known
        return known

    def _open(self, path: str, number: int) -> xr.Variable | None:
        node = self._tree.children.get(path.split("/")[0])
        for name in path.split("/")[1:]:
            node = None if node is None else node.children.get(name)
        if node is not None and groups.is_opened(node):
            field = groups.field(self._tree, path, self.number)
            return None if field is None else image.levels(field)[number].variable
        if path not in self._fields:
            self._fields[path] = read.find_field(
                *groups.place(self._tree), path, self.number, version=image.version(self._tree)
            )
        place = self._fields[path]
        if place is None:
            return None
        array = place.level(self._paths[number])
        dims = self.levels[number].dims
        if array.ndim != len(dims):
            raise SelectionError(
                f"has {array.ndim} axes, and the first well {len(dims)}: view it alone"
            )
        return xr.Variable(dims, lazy.lazy(array))

    def read(self, path: str, number: int, box: Sequence[slice]) -> Array | None:
        """Return the pixels of a box, as many as there are; None if the well is not there.

        Raises
        ------
        SelectionError
            If they have a type that the other wells' does not hold.
        """
        variable = self.level(path, number)
        if variable is None:
            return None
        expected = self.levels[number].dtype
        if not np.can_cast(variable.dtype, expected):
            raise SelectionError(
                f"is {variable.dtype}, and the first well {expected}: view it alone"
            )
        found = variable[tuple(box)].data
        if hasattr(found, "compute"):  # dask: this is a thread of many already
            found = found.compute(scheduler="synchronous")
        return np.asarray(found).astype(expected, copy=False)

    def tell(self, path: str, problem: str | None) -> None:
        """Remember that a well cannot be shown: why, or None if it is not there."""
        with self._lock:
            if problem is None:
                self.missing.add(path)
                return
            known = path in self.problems
            self.problems[path] = problem
        if not known:
            self.told()


def _placed(
    wells: Sequence[Well], rows: Sequence[str], columns: Sequence[str]
) -> Iterator[tuple[Spot, Well]]:
    row = {name: i for i, name in enumerate(rows)}
    column = {name: i for i, name in enumerate(columns)}
    for well in wells:
        if well.row in row and well.column in column:
            yield (row[well.row], column[well.column]), well


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
class _Level:
    """A level of the plate: which of the wells', every how many of its pixels, and its sides."""

    number: int
    reduced: int
    down: Side
    right: Side


class _PlateArray(BackendArray):
    """Lets xarray index all wells as one array."""

    def __init__(self, wells: PlateWells, level: _Level, planes: _Planes) -> None:
        self._wells, self._level, self._planes = wells, level, planes
        array = wells.levels[level.number]
        self._plane = image.plane_dims(array)
        sides = dict(zip(self._plane, (level.down, level.right), strict=True))
        self.shape = tuple(
            sides[dim].cut + sides[dim].total if dim in sides else size
            for dim, size in array.sizes.items()
        )
        self.dtype = array.dtype
        self._dims = array.dims

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Array:
        taken = [
            range(*part.indices(size)) if isinstance(part, slice) else range(part, part + 1)
            for part, size in zip(key, self.shape, strict=True)
        ]
        out = np.zeros([len(part) for part in taken], self.dtype)
        if out.size:
            self._fill(out, taken)
        return out[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]

    def _fill(self, out: Array, taken: Sequence[range]) -> None:
        axes = [self._dims.index(dim) for dim in self._plane]
        sides = (self._level.down, self._level.right)
        spans = [list(side.spans(taken[axis])) for side, axis in zip(sides, axes, strict=True)]
        whole = [slice(part.start, part[-1] + 1, part.step) for part in taken]

        def fill(found: tuple[Any, Any]) -> None:
            spot = (found[0][0], found[1][0])
            well = self._wells.at.get(spot)
            if well is None:
                return
            there, here = list(whole), [slice(None)] * len(whole)
            for axis, (_, to, of) in zip(axes, found, strict=True):
                here[axis], there[axis] = to, of
            try:
                pixels = self._planes.read(well.path, self._level, there, axes)
            except Exception as error:  # whatever a store or a codec raises: the others go on
                text = printable(" ".join(str(error).split()), 200) or type(error).__name__
                self._wells.tell(well.path, text)
                return
            if pixels is None:
                self._wells.tell(well.path, None)
                return
            target = out[tuple(here)]
            target[tuple(map(slice, pixels.shape))] = pixels

        places = list(itertools.product(*spans))
        listed = [place for place in places if (place[0][0], place[1][0]) in self._wells.at]
        self._wells.each(fill, listed)


class _Planes:
    """Reads boxes of wells; planes of their coarsest level are kept."""

    def __init__(self, wells: PlateWells) -> None:
        self._wells = wells
        self._loader: Loader[Hashable, Array] = Loader(Lru(int(_KEPT), lambda plane: plane.nbytes))

    def read(
        self, path: str, level: _Level, box: Sequence[slice], axes: Sequence[int]
    ) -> Array | None:
        """Return the pixels of a box of a well; None if the well is not there."""
        last = len(self._wells.levels) - 1
        if level.number < last:
            return self._wells.read(path, level.number, box)
        plane = self._kept(path, level.number, box, axes)
        if plane is None:
            return None
        if level.reduced > 1:
            factors = [level.reduced if i in axes else 1 for i in range(plane.ndim)]
            plane = _reduced(plane, factors)
        own = tuple(box[i] if i in axes else slice(None) for i in range(plane.ndim))
        return plane[own]

    def _kept(
        self, path: str, number: int, box: Sequence[slice], axes: Sequence[int]
    ) -> Array | None:
        whole = tuple(slice(None) if i in axes else part for i, part in enumerate(box))
        key = (path, tuple((part.start, part.stop, part.step) for part in whole))
        if self._wells.level(path, number) is None:
            return None

        def load(keys: Sequence[Hashable]) -> dict[Hashable, Any]:
            return dict.fromkeys(keys, self._wells.read(path, number, whole))

        return self._loader.fetch([key], load)[key]


def _reduced(plane: Array, factors: Sequence[int]) -> Array:
    """Return the means of blocks; of types without one, every n-th pixel."""
    if plane.dtype.kind == "b" or plane.dtype.itemsize > 4:
        return plane[tuple(slice(factor // 2, None, factor) for factor in factors)]
    return pyramid.mean(plane, factors)


# ---- the levels --------------------------------------------------------------------------------


def _levels(wells: PlateWells) -> list[_Level]:
    """Return the levels of a plate: those of its wells, and coarser ones down to a few pixels."""
    arrays = wells.levels
    dims = image.plane_dims(arrays[0])
    last = [arrays[-1].sizes[dim] for dim in dims]
    most = max(min(last) // _SMALLEST, 1)
    reductions = [2**n for n in range(1, most.bit_length())]
    steps = [(n, 1) for n in range(len(arrays))]
    steps += [(len(arrays) - 1, factor) for factor in reductions]
    counts = (len(wells.rows), len(wells.columns))
    down, right = (
        _sides([_size(arrays[n].sizes[dim], by) for n, by in steps], counts)
        for dim, counts in zip(dims, counts, strict=True)
    )
    margin = _MARGIN * max(down[0].pitch * down[0].count, right[0].pitch * right[0].count)
    return [
        _Level(number, by, _with_margin(one, down[0], margin), _with_margin(two, right[0], margin))
        for (number, by), one, two in zip(steps, down, right, strict=True)
    ]


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


def plate_world(wells: PlateWells, name: str) -> tuple[World, PlateScenery]:
    """Return a world in which the wells of a plate are one layer; no pixel is read.

    Parameters
    ----------
    wells
        The wells.
    name
        What to call the layer.
    """
    levels = _levels(wells)
    finest = levels[0]
    total = finest.down.total + finest.right.total
    if 2 * total > _MOST_PIXELS:
        raise SelectionError(
            f"the plate has rows and columns of {total} pixels together, more than a viewer "
            "can show: view a well of it, with .ngff.well(path).ngff.view()"
        )
    planes = _Planes(wells)
    said = {key: value for key, value in image.ome(wells.first).items() if key == "omero"}
    nodes = {"/": xr.Dataset(attrs={"ome": {**said, "name": name}})}
    nodes["/"].encoding["level_paths"] = tuple(str(n) for n in range(len(levels)))
    for number, level in enumerate(levels):
        nodes[f"/{number}"] = _dataset(wells, level, finest, planes)
    made = make_world(xr.DataTree.from_dict(nodes), labels=False)
    layer = made.layers[0]
    scenery = PlateScenery(wells, levels, layer.levels)
    layer = replace(layer, scenery=scenery)
    # the third axis of space has no plane over all wells
    return replace(made, layers=(layer,), space=(made.down, made.right)), scenery


def _dataset(wells: PlateWells, level: _Level, finest: _Level, planes: _Planes) -> xr.Dataset:
    array = wells.levels[level.number]
    sides = dict(zip(image.plane_dims(array), (level.down, level.right), strict=True))
    first = dict(zip(sides, (finest.down, finest.right), strict=True))
    stored = array.encoding.get("chunks")
    known = dict(zip(array.dims, stored, strict=True)) if isinstance(stored, tuple) else {}
    chunks = tuple(
        sides[dim].pitch if dim in sides else int(np.max(known.get(dim, 1))) for dim in array.dims
    )
    pixels = indexing.LazilyIndexedArray(_PlateArray(wells, level, planes))
    variable = xr.Variable(array.dims, pixels, encoding={"chunks": chunks})
    variable = variable.isel({dim: slice(side.cut, None) for dim, side in sides.items()})
    coords: dict[Any, Any] = {
        dim: array.coords[dim].variable for dim in array.dims if dim in array.coords
    }
    for dim, side in sides.items():
        whole = wells.levels[0]
        size = geometry.pixel_size(whole[dim]) or 1.0
        step = size * first[dim].pitch / side.pitch
        places = (np.arange(variable.sizes[dim]) + 0.5 - side.margin) * step
        coords[dim] = xr.Variable(dim, places, {**whole[dim].attrs, "pixel_size": step})
    return xr.Dataset({"image": variable}, coords=coords)


# ---- what is drawn around the wells, and said of them ------------------------------------------


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
        self, wells: PlateWells, levels: Sequence[_Level], placed: Sequence[LayerLevel]
    ) -> None:
        self._wells, self._levels = wells, levels
        self._sides = (levels[0].down, levels[0].right)
        affine = placed[0].affine()
        self._pixel = (abs(affine.d), abs(affine.a))

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
        native = len(self._wells.levels)
        large = [n for n in range(native) if self._levels[n].right.size >= _SAMPLED]
        number = large[-1] if large else 0
        spots = list(self._wells.at)
        every = max(1, len(spots) // _MOST_SAMPLED)
        tried = spots[::every][: 2 * _MOST_SAMPLED]
        found = [spot for spot in tried if self._is_there(self._wells.at[spot].path, number)]
        level = self._levels[number]
        parts = [
            (top, top + level.down.size, left, left + level.right.size)
            for row, column in found[:_MOST_SAMPLED]
            for top, left in [(level.down.first(row), level.right.first(column))]
        ]
        return layer.levels[number], parts

    def _is_there(self, path: str, number: int) -> bool:
        try:
            return self._wells.level(path, number) is not None
        except Exception:  # whatever a store raises: it is said where its pixels are read
            return False

    def painted(self, rgb: NDArray[np.uint8], matrix: Affine) -> NDArray[np.uint8]:
        """Return a picture with all that is no well in grey, and the names drawn."""
        out = np.empty_like(rgb)
        out[:] = _GROUND
        height, width = rgb.shape[:2]
        signs = []
        rows = _Along.of(self._sides[0], self._pixel[0], matrix.d, matrix.f, height)
        columns = _Along.of(self._sides[1], self._pixel[1], matrix.a, matrix.e, width)
        for row, column in itertools.product(rows.places, columns.places):
            well = self._wells.at.get((row, column))
            if well is None:
                continue
            part = np.s_[rows.pixels(row), columns.pixels(column)]
            if well.path in self._wells.problems:
                _cross(out, rows.ends(row), columns.ends(column))
            elif well.path in self._wells.missing:
                out[part] = _MISSING
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
    out[top:bottom, left:right] = np.where(marked[..., np.newaxis], _MARK, _BROKEN)
