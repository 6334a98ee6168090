"""The pixels of a block of a resampled image: what is read for it, and how it is interpolated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray import geometry, units
from ngff_xarray.errors import TransformationError
from ngff_xarray.model import Axis
from ngff_xarray.transforms import (
    Affine,
    Bijection,
    ByDimension,
    NumericInverse,
    ProjectAxis,
    Transformation,
    Translation,
)
from ngff_xarray.transforms import Sequence as Steps
from ngff_xarray.world.placing import _coordinate, _indices, _Layout, _mesh
from ngff_xarray.world.positions import Floats, _along, _numeric, _side_by_side
from ngff_xarray.world.ways import _PIXELS, _Function, _Group, _halves, _pieces, _Way

Method = Literal["linear", "nearest"]
_TILE = 2**15  # points whose arithmetic stays in a processor's cache
_BOX = 2**22  # pixels of the source that are read at a time
_NOISE = 1e-8  # of a pixel: what floats make of a position


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Which axes of an array are interpolated together, and what becomes of the others.

    Parameters
    ----------
    way
        Where the array goes.
    array
        The source.
    layout
        The groups of its axes.
    grids
        The coordinates of the axes that are resampled, by their number.
    back
        What leads back, where that is known.
    """

    way: _Way
    array: xr.DataArray
    layout: _Layout
    grids: Mapping[int, xr.Variable]
    back: Transformation | None

    @property
    def is_whole(self) -> bool:
        """Tell whether every dimension of the result is an axis of the system."""
        return all(group.outputs for group in self.layout.groups)

    def result(self, method: Method, fill: Any, said: dict[str, Any] | None) -> xr.DataArray:
        """Return the image on the grids."""
        positions = [_numeric(self.array, axis) for axis in self.way.source.axes]
        names = [axis.name for axis in self.way.source.axes]
        slots: dict[str, list[int]] = {}  # the grids that stand in the place of a dimension
        parts: list[tuple[_Group, _Function]] = []
        for group in self.layout.groups:
            if group.inputs and self._is_resampled(group):
                parts.append((group, self._inverse(group, positions)))
                places = [dim for dim in self.array.dims if dim in {names[i] for i in group.inputs}]
                lines = [k for k in group.outputs if self.grids[k].ndim]
                slots |= {str(dim): [] for dim in places}
                slots |= {str(dim): [k] for dim, k in zip(places, lines, strict=False)}
        axes: list[_Axis] = []
        for number, dim in enumerate(map(str, self.array.dims)):
            if dim in slots:
                axes += [_Axis(grid=k) for k in slots[dim]]
            else:
                axes.append(_Axis(source=number))
        source = _Resampled(
            self.array.variable,
            axes,
            [self._part(group, function, axes) for group, function in parts],
            method,
            fill,
        )
        dims = [self._dim(axis) for axis in axes]
        attrs = self.array.attrs if said is None else {**self.array.attrs, "ome": said}
        return xr.DataArray(
            xr.Variable(dims, indexing.LazilyIndexedArray(source), attrs),
            coords=self._coordinates(positions, set(slots)),
            name=self.array.name,
        )

    def _is_resampled(self, group: _Group) -> bool:
        return any(k in self.grids for k in group.outputs)

    def _dim(self, axis: _Axis) -> str:
        if axis.grid is not None:
            return self.way.target.axes[axis.grid].name
        name = str(self.array.dims[axis.source or 0])
        return self.layout.renamed.get(name, name)

    def _coordinates(
        self, positions: Sequence[xr.DataArray], gone: set[str]
    ) -> dict[str, xr.Variable]:
        """Return the coordinates of the result: new ones, and those that nothing changed."""
        axes = self.way.target.axes
        found = {axes[k].name: grid for k, grid in self.grids.items()}
        for group in self.layout.groups:
            for k in group.outputs if not self._is_resampled(group) else ():
                if axes[k].name in self.layout.created:
                    found[axes[k].name] = _coordinate(
                        self.array, self.way, k, positions, self.layout
                    )
        for name, coordinate in self.array.coords.items():
            new = self.layout.renamed.get(str(name), str(name))
            dims = [str(dim) for dim in coordinate.dims]
            if new in found or str(name) in self.layout.dropped or gone.intersection(dims):
                continue
            found[new] = coordinate.variable.to_base_variable().copy(deep=False)
            found[new].dims = tuple(self.layout.renamed.get(dim, dim) for dim in dims)
        return found

    def _inverse(self, group: _Group, positions: Sequence[xr.DataArray]) -> _Function:
        """Return what leads from the axes of a group to fractional indices of the array."""
        if len(group.inputs) != len(group.outputs):
            names = [
                ", ".join(system.axes[i].name for i in numbers)
                for system, numbers in (
                    (self.way.source, group.inputs),
                    (self.way.target, group.outputs),
                )
            ]
            raise TransformationError(
                f"axes {names[1]} of {self.way.target.name!r} come from {names[0]}: there is no "
                "way back to pixels; keep all axes that mix, by a slice instead of a position"
            )
        back = self._solved(group, positions)
        along = _side_by_side([_along(positions[i]).inverse() for i in group.inputs])
        return _Function(Steps((_forgiving(back), along)), len(group.outputs))

    def _solved(self, group: _Group, positions: Sequence[xr.DataArray]) -> Transformation:
        fixed = [np.asarray(0.0 if p.ndim else p.values) for p in positions]
        linear = self.way.function.linear
        if self.back is not None:
            others = tuple(k for k in range(len(self.way.target.axes)) if k not in group.outputs)
            here = [
                0.0
                if k in group.outputs or not self._is_fixed(k)
                else float(self.way.function.output(k, fixed))
                for k in range(len(self.way.target.axes))
            ]
            dropped = tuple(i for i in range(len(self.way.source.axes)) if i not in group.inputs)
            given = (ProjectAxis((), others), Translation(tuple(here)), self.back)
            return Steps((*given, ProjectAxis(dropped, ())))
        if linear is None:
            raise TransformationError(
                f"nothing leads from {self.way.target.name!r} back to {self.way.source.name!r}"
            )
        rows = [
            (*linear[k, list(group.inputs)].tolist(), float(self.way.function.output(k, fixed)))
            for k in group.outputs
        ]
        return Affine(tuple(rows)).inverse()

    def _is_fixed(self, number: int) -> bool:
        """Tell whether an axis of the system depends on no dimension: all stand at one place."""
        return any(group.outputs == (number,) and not group.inputs for group in self.layout.groups)

    def _part(self, group: _Group, function: _Function, axes: Sequence[_Axis]) -> _Part:
        names = [self.way.source.axes[i].name for i in group.inputs]
        grids = [_in_unit(self.grids[k], self.way.target.axes[k]) for k in group.outputs]
        return _Part(
            sources=tuple(list(self.array.dims).index(name) for name in names),
            outputs=tuple(
                next((n for n, axis in enumerate(axes) if axis.grid == k), None)
                for k in group.outputs
            ),
            grids=tuple(grids),
            function=function,
        )


def _in_unit(grid: xr.Variable, axis: Axis) -> Floats:
    coordinate = xr.DataArray(grid)
    factor = units.factor(geometry.unit(coordinate), axis.unit)
    return geometry.numbers(coordinate).reshape(grid.shape) * factor


def _forgiving(transformation: Transformation) -> Transformation:
    """Return a transformation that gives NaN where an inverse finds nothing, instead of raising."""
    match transformation:
        case NumericInverse():
            return _Found(transformation)
        case Steps(parts):
            return Steps(tuple(map(_forgiving, parts)))
        case Bijection(forward, backward):
            return Bijection(_forgiving(forward), backward)
        case ByDimension(parts):
            return ByDimension(
                tuple(replace(p, transformation=_forgiving(p.transformation)) for p in parts)
            )
    return transformation


@dataclass(frozen=True, slots=True)
class _Found:
    """A searched inverse that gives NaN for what it does not find."""

    search: NumericInverse

    def apply(self, points: ArrayLike) -> Floats:
        targets = np.asarray(points, dtype=np.float64)
        flat = targets.reshape(-1, targets.shape[-1])
        result, solved = self.search.transformation.solve(flat)
        return np.where(solved[:, None], result, np.nan).reshape(targets.shape)

    def inverse(self) -> Transformation:
        return self.search.inverse()

    def ndim_out(self, ndim: int) -> int:
        return self.search.ndim_out(ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        return self.search.dependence(ndim)


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of the result: one of the source's that passes through, or a grid."""

    source: int | None = None
    grid: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Axes that are interpolated together.

    Parameters
    ----------
    sources
        Axes of the source.
    outputs
        Axes of the result, one for each grid; None where the grid is one position.
    grids
        Where the pixels of the result are.
    function
        From there to fractional indices of the source, one for each of its axes.
    """

    sources: tuple[int, ...]
    outputs: tuple[int | None, ...]
    grids: tuple[Floats, ...]
    function: _Function

    @property
    def axes(self) -> list[int]:
        """The axes of the result, which rise."""
        return [axis for axis in self.outputs if axis is not None]

    def look(self, places: Sequence[NDArray[np.intp]], shape: Sequence[int]) -> _Look:
        """Return where the pixels of a block are in a source of a shape."""
        inputs = [
            grid if axis is None else grid[places[axis]]
            for grid, axis in zip(self.grids, self.outputs, strict=True)
        ]
        found = self.function(_mesh(inputs))
        block = tuple(len(places[axis]) for axis in self.axes)
        inside = np.ones(block, dtype=np.bool_)
        indices = []
        for axis, index in zip(self.sources, found, strict=True):
            whole = np.round(index)
            index = np.where(np.abs(index - whole) < _NOISE, whole, index)
            last = shape[axis] - 1
            with np.errstate(invalid="ignore"):  # NaN: nowhere
                inside &= (index >= -0.5 - _NOISE) & (index <= last + 0.5 + _NOISE)
            indices.append(np.clip(index, 0, last))
        return _Look(self, indices, inside)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Where the pixels of a block are in the source: fractional indices, and which are inside."""

    part: _Part
    indices: list[Floats]
    inside: NDArray[np.bool_]

    def box(self) -> dict[int, slice]:
        """Return what of the source is needed, by its axis."""
        found = {}
        for axis, index in zip(self.part.sources, self.indices, strict=True):
            used = np.broadcast_to(index, self.inside.shape)[self.inside]
            found[axis] = slice(math.floor(np.min(used)), math.ceil(np.max(used)) + 1)
        return found

    def values(self, flat: NDArray[Any], box: Sequence[slice], method: Method) -> NDArray[Any]:
        """Return the pixels of the block from those of the box, whose axes are one, the last."""
        strides = [math.prod(s.stop - s.start for s in box[i + 1 :]) for i in range(len(box))]
        taps = []
        for index, part, stride in zip(self.indices, box, strides, strict=True):
            inside = np.where(self.inside, index, part.start) - part.start
            taps.append(_taps(inside, stride, method))
        if method == "nearest":
            return np.take(flat, reduce(np.add, [place for ((place, _),) in taps]), axis=-1)
        kind = np.result_type(flat.dtype, np.float64)
        total = np.zeros((*flat.shape[:-1], *self.inside.shape), dtype=kind)
        for corner in itertools.product(*taps):
            weight = reduce(np.multiply, [weight for _, weight in corner])
            if not weight.any():
                continue
            found = np.take(flat, reduce(np.add, [place for place, _ in corner]), axis=-1)
            with np.errstate(invalid="ignore"):  # 0 times infinity, which does not count
                share = found * weight
            np.add(total, share, out=total, where=weight != 0)
        return total


def _taps(index: Floats, stride: int, method: Method) -> list[tuple[NDArray[np.intp], Floats]]:
    """Return the pixels that count along an axis, as flat indices, and how much each does."""
    if method == "nearest":
        return [(np.floor(index + (0.5 + _NOISE)).astype(np.intp) * stride, np.ones(()))]
    first = np.floor(index)
    beyond = index - first
    place = first.astype(np.intp) * stride
    return [(place, 1 - beyond), (place + np.where(beyond > 0, stride, 0), beyond)]


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A part of a block, by the axes that are grids: where it looks, and what box it needs."""

    where: Mapping[int, slice]
    looks: Sequence[_Look]
    box: Mapping[int, slice]


class _Resampled(BackendArray):
    """An image on other grids, computed where it is read.

    Parameters
    ----------
    source
        The pixels.
    axes
        What each axis of the result is.
    parts
        What is interpolated. All other axes pass through.
    method, fill
        How, and what stands outside.
    """

    def __init__(
        self,
        source: xr.Variable,
        axes: Sequence[_Axis],
        parts: Sequence[_Part],
        method: Method,
        fill: Any,
    ) -> None:
        self._source = source
        self._axes = axes
        self._parts = parts
        self._method: Method = method
        self._fill = fill
        sizes = {
            axis: grid.size
            for part in parts
            for axis, grid in zip(part.outputs, part.grids, strict=True)
        }
        self.shape = tuple(
            sizes[n] if axis.source is None else source.shape[axis.source]
            for n, axis in enumerate(axes)
        )
        self.dtype = source.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        vectorized = isinstance(key, indexing.VectorizedIndexer)
        return indexing.explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            self._at if vectorized else self._over,
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        return self[key]

    def _over(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return the block of all combinations of indices."""
        places = _indices(key, self.shape)
        result = np.empty([max(p.size, 0) for p in places], dtype=self.dtype)
        self._fill_block(result, [np.atleast_1d(p) for p in places])
        return result.reshape([p.size for p in places if p.ndim])

    def _at(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return single pixels: those of a run that is close together from one block."""
        spread = np.broadcast_arrays(*_indices(key, self.shape))
        flat = np.stack([places.ravel() for places in spread])
        result = np.empty(flat.shape[1], dtype=self.dtype)
        runs = [slice(0, flat.shape[1])] if flat.shape[1] else []
        while runs:
            run = runs.pop()
            low, high = flat[:, run].min(axis=1), flat[:, run].max(axis=1)
            if math.prod((high - low + 1).tolist()) > _PIXELS and run.stop - run.start > 1:
                runs += _halves(run)
                continue
            block = self._over(tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True)))
            result[run] = block[tuple(flat[:, run] - low[:, None])]
        return result.reshape(spread[0].shape)

    def _fill_block(self, result: NDArray[Any], places: list[NDArray[np.intp]]) -> None:
        """Compute a block, in halves as long as it or what it needs of the source is large."""
        if not result.size:
            return
        gridded = [n for n, axis in enumerate(self._axes) if axis.source is None]
        count = math.prod(len(places[n]) for n in gridded)
        if count <= _PIXELS:
            tiles = list(self._tiles(places, gridded))
            if not tiles:
                result[...] = self._fill
                return
            box = {
                axis: slice(
                    min(tile.box[axis].start for tile in tiles),
                    max(tile.box[axis].stop for tile in tiles),
                )
                for axis in tiles[0].box
            }
            if math.prod(part.stop - part.start for part in box.values()) <= _BOX or count == 1:
                self._interpolate(result, places, tiles, box)
                return
        longest = max(gridded, key=lambda n: len(places[n]))
        middle = len(places[longest]) // 2
        for half in (slice(None, middle), slice(middle, None)):
            some = [p[half] if n == longest else p for n, p in enumerate(places)]
            inside = tuple(half if n == longest else slice(None) for n in range(result.ndim))
            self._fill_block(result[inside], some)

    def _tiles(self, places: Sequence[NDArray[np.intp]], gridded: Sequence[int]) -> Iterator[_Tile]:
        """Yield the tiles of a block that some of the source is in."""
        for piece in _pieces([len(places[n]) for n in gridded], _TILE):
            where = dict(zip(gridded, piece, strict=True))
            some = [p[where.get(n, slice(None))] for n, p in enumerate(places)]
            looks = [part.look(some, self._source.shape) for part in self._parts]
            if all(look.inside.any() for look in looks):
                box = {axis: part for look in looks for axis, part in look.box().items()}
                yield _Tile(where, looks, box)

    def _interpolate(
        self,
        result: NDArray[Any],
        places: Sequence[NDArray[np.intp]],
        tiles: Sequence[_Tile],
        box: Mapping[int, slice],
    ) -> None:
        """Compute a block, some of the axes that pass through at a time."""
        result[...] = self._fill
        volume = math.prod(part.stop - part.start for part in box.values())
        count = max(math.prod(look.inside.size for look in tile.looks) for tile in tiles)
        passing = [n for n, axis in enumerate(self._axes) if axis.source is not None]
        most = max(1, min(_BOX // volume, _PIXELS // count))
        for piece in _pieces([len(places[n]) for n in passing], most):
            taken = dict(zip(passing, piece, strict=True))
            key: list[Any] = [None] * self._source.ndim
            for n, part in taken.items():
                key[self._axes[n].source or 0] = _compact(places[n][part])
            for axis, part in box.items():
                key[axis] = part
            pixels = np.asarray(self._source[tuple(key)].values)
            for tile in tiles:
                values = self._in_order(_cropped(pixels, tile.box, box), tile)
                where = tuple({**taken, **tile.where}[n] for n in range(result.ndim))
                inside = self._inside(tile.looks, result.ndim)
                result[where] = np.where(inside, _rounded(values, self.dtype), self._fill)

    def _inside(self, looks: Sequence[_Look], ndim: int) -> NDArray[np.bool_]:
        """Return which pixels of a block are inside, in a shape that broadcasts."""
        result = np.ones([1] * ndim, dtype=np.bool_)
        for look in looks:
            shape = [1] * ndim
            for axis, size in zip(look.part.axes, look.inside.shape, strict=True):
                shape[axis] = size
            result = result & look.inside.reshape(shape)
        return result

    def _in_order(self, pixels: NDArray[Any], tile: _Tile) -> NDArray[Any]:
        """Return a tile from the pixels of its box, its axes in the order of the result."""
        names: list[tuple[str, int]] = [("source", n) for n in range(pixels.ndim)]
        for look in tile.looks:
            sources = [("source", axis) for axis in look.part.sources]
            rest = [name for name in names if name not in sources]
            turned = pixels.transpose([names.index(name) for name in (*rest, *sources)])
            flat = turned.reshape(*turned.shape[: len(rest)], -1)
            inner = [tile.box[axis] for axis in look.part.sources]
            pixels = look.values(flat, inner, self._method)
            names = [*rest, *(("result", axis) for axis in look.part.axes)]
        wanted = [
            ("result", n) if axis.source is None else ("source", axis.source)
            for n, axis in enumerate(self._axes)
        ]
        return pixels.transpose([names.index(name) for name in wanted])


def _cropped(
    pixels: NDArray[Any], wanted: Mapping[int, slice], held: Mapping[int, slice]
) -> NDArray[Any]:
    """Return a smaller box of the source from a larger one."""
    key: list[slice] = [slice(None)] * pixels.ndim
    for axis, part in wanted.items():
        first = held[axis].start
        key[axis] = slice(part.start - first, part.stop - first)
    return pixels[tuple(key)]


def _compact(places: NDArray[np.intp]) -> Any:
    """Return indices as a slice, where they are one."""
    steps = np.diff(places)
    if places.size and (steps == (steps[0] if steps.size else 1)).all():
        step = int(steps[0]) if steps.size else 1
        if step > 0:
            return slice(int(places[0]), int(places[-1]) + 1, step)
    return places


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as pixels of a type: rounded half to even where it is of integers."""
    if values.dtype == dtype or dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    high = float(limits.max)
    if high > limits.max:  # the next float is one too many
        high = np.nextafter(high, 0)
    return np.clip(np.rint(values), float(limits.min), high).astype(dtype)
