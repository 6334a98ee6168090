"""Planes of an image: which level, where it is cut, and what is read of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import channels, geometry, image, ops, render, selection
from ngff_xarray.channels import Channels
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.render import PROJECTIONS, Projection
from ngff_xarray.spec import omero

MAX_PIXELS = 2**20
MAX_CHUNKS = 2**16  # that a picture may read
MAX_PROJECTED = 2**30  # bytes that a projection may read
_SLAB = 2**26  # bytes of it that are in memory at a time


@dataclass(frozen=True, slots=True)
class Choice:
    """What to draw of an image.

    Parameters
    ----------
    level
        A level by number or pixel size; None for the finest that has no more than ``max_pixels``.
    channels
        As `ngff_xarray.channels.chosen` takes them.
    projection
        Over the axes of space that are not drawn, instead of one plane.
    max_pixels
        How many pixels the plane may have.
    position
        A position or region an axis, as ``sel`` takes them.
    dims
        The axes drawn downwards and to the right; None for y and x.
    """

    level: object = None
    channels: Channels = None
    projection: Projection | None = None
    max_pixels: int = MAX_PIXELS
    position: Mapping[str, Any] = field(default_factory=dict)
    dims: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane that was read.

    Parameters
    ----------
    values
        One (y, x) array a channel; of a label image, one.
    channels
        The channel of each as it was chosen; none of a label image.
    y, x
        The coordinates of the pixels.
    position
        Where the plane lies on the axes that are not drawn, in their units.
    computed
        Whether the pixels may be others than the store's.
    """

    values: tuple[NDArray[Any], ...]
    channels: tuple[Channel, ...]
    y: xr.DataArray
    x: xr.DataArray
    position: Mapping[str, float | str]
    computed: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """What a picture reads of an image, and of all others like it; no pixel was read.

    Parameters
    ----------
    level
        The number of the level.
    where
        What is taken along its axes, by index.
    steps
        Every how many of those pixels, along the axes that are drawn.
    dims
        The axes of what is read: that of channels, those projected over, down and right.
    over
        The axes projected over.
    how
        How.
    channel
        The axis of channels, if there is one.
    indices
        The channels that are drawn.
    known
        All channels that there are, as stored.
    looks
        Those that are drawn, as they were chosen; none of a label image.
    y, x, position, computed
        As of the `Plane`.
    """

    level: int
    where: Mapping[str, Any]
    steps: Mapping[str, slice]
    dims: tuple[str, ...]
    over: tuple[str, ...]
    how: Projection | None
    channel: str | None
    indices: Sequence[int]
    known: tuple[Channel, ...]
    looks: tuple[Channel, ...]
    y: xr.DataArray
    x: xr.DataArray
    position: Mapping[str, float | str]
    computed: bool

    def part(self, variable: xr.Variable) -> xr.Variable:
        """Return what is read of the level, lazily: (c?, z?, y, x)."""
        part = variable.isel(self.where).isel(self.steps).transpose(*self.dims)
        return part if self.channel is None else part.isel({self.channel: list(self.indices)})

    def plane(self, part: xr.Variable) -> Plane:
        """Return the plane that a part is, read here and now unless it is in memory."""
        values: tuple[NDArray[Any], ...]
        drawn = self.dims[-2:]
        if self.channel is None:
            values = (_values(part, self.over, drawn[0], self.how),)
        elif not self.over:
            values = tuple(part.values)  # all in flight together
        else:
            parts = (part.isel({self.channel: i}) for i in range(len(self.indices)))
            values = tuple(_values(each, self.over, drawn[0], self.how) for each in parts)
        return Plane(values, self.looks, self.y, self.x, self.position, self.computed)


def read(obj: Obj, choice: Choice) -> Plane:
    """Return a plane of an image.

    Raises
    ------
    SelectionError
        If there is no such level, channel, position or region, or too much to read.
    NotOmeError
        If the object is no picture.
    """
    cut = cut_of(obj, choice)
    return cut.plane(cut.part(image.levels(obj)[cut.level].variable))


def cut_of(obj: Obj, choice: Choice) -> Cut:
    """Return what of an image is to be read; raises what `read` does, as far as that is known."""
    arrays = image.levels(obj)
    check_drawable(arrays[0], choice.dims)
    down, right = choice.dims or image.plane_dims(arrays[0])
    known: tuple[Channel, ...] = ()
    looks: list[Channel] = []
    indices = [0]
    if image.kind(obj) == "labels":
        _check_labels(arrays[0])
    else:
        known = channels.stored(_of_channels(arrays[0], choice.position), obj)
        indices, looks = channels.chosen(known, choice.channels)
    over = _projected_dims(arrays[0], choice, (down, right))
    at = positions(arrays[0], choice.position, {down, right, *over})
    dims = (*over, down, right)
    number, where = _chosen_level(arrays, choice, at, dims, len(indices))
    array = arrays[number].isel(where)
    check_budget(array, (down, right, *over))
    steps = _steps(array, (down, right), choice.max_pixels)
    channel = image.channel_dim(array)
    return Cut(
        level=number,
        where=where,
        steps=steps,
        dims=tuple(dim for dim in (channel, *dims) if dim is not None and dim in array.dims),
        over=tuple(over),
        how=choice.projection if looks or not choice.projection else "max",
        channel=channel,
        indices=indices,
        known=known,
        looks=tuple(looks),
        y=array[down].isel({down: steps.get(down, slice(None))}),
        x=array[right].isel({right: steps.get(right, slice(None))}),
        position=at,
        computed="chunks" not in array.encoding,
    )


def _of_channels(array: xr.DataArray, position: Mapping[str, Any]) -> xr.DataArray:
    """Return the array with those channels that are left at a position."""
    dim = image.channel_dim(array)
    if dim is None or dim not in position:
        return array
    return array.isel(selection.positions(array, {dim: position[dim]}))


def check_drawable(array: xr.DataArray, dims: tuple[str, str] | None = None) -> None:
    """Raise if an array is no picture, or an empty one."""
    if array.dtype.kind not in "buif":
        raise NotOmeError(
            f"{array.dtype} is no dtype of pictures: expected integers or floats: convert it, as "
            "with abs() or .astype('float32')"
        )
    for dim in array.dims:
        if not array.sizes[dim]:
            raise SelectionError(
                f"axis {dim} is empty: there is nothing to draw: take a larger region"
            )
    for dim in dims or image.plane_dims(array):
        if not geometry.is_numeric(array[dim]):
            raise NotOmeError(f"{dim} has no positions to draw along: its coordinate holds names")


def _check_labels(array: xr.DataArray) -> None:
    if array.dtype.kind not in "bui":
        raise NotOmeError(
            f"labels must be integers to be drawn, found {array.dtype}: convert them, as with "
            ".astype('uint32')"
        )


# ---- where -----------------------------------------------------------------------------------


def _projected_dims(array: xr.DataArray, choice: Choice, drawn: tuple[str, str]) -> list[str]:
    """Return the space axes to project over."""
    projection, position = choice.projection, choice.position
    if projection is None:
        slices = [dim for dim in position if isinstance(position[dim], slice)]
        loose = set(slices) - {*drawn, image.channel_dim(array)}
        if loose:
            choices = " or ".join(map(repr, PROJECTIONS))
            raise SelectionError(f"{loose.pop()}: a region of it needs a projection: {choices}")
        return []
    if projection not in PROJECTIONS:
        raise SelectionError(f"projection: expected one of {PROJECTIONS}, found {projection!r}")
    single = {dim for dim, where in position.items() if not isinstance(where, slice)}
    third = [axis.name for axis in image.axes(array) if axis.type == "space"]
    return [dim for dim in third if dim not in drawn and dim not in single]


def positions(
    array: xr.DataArray, position: Mapping[str, Any], kept: set[str]
) -> dict[str, float | str]:
    """Return where to cut all axes but those that are kept and the channels'."""
    channel = image.channel_dim(array)
    return {
        str(dim): _default_position(array, str(dim), position)
        for dim in array.dims
        if dim not in kept and dim != channel
    }


def _default_position(array: xr.DataArray, dim: str, position: Mapping[str, Any]) -> float | str:
    """Return where to cut an axis: where the user says, the store, or a sensible place."""
    coordinate = array[dim]
    kind = {axis.name: axis.type for axis in image.axes(array)}[dim]
    if kind == "channel" or not geometry.is_numeric(coordinate):
        return str(coordinate.values[selection.positions(array, {dim: position.get(dim, 0)})[dim]])
    if dim in position:
        return geometry.position(position[dim], coordinate)
    index = omero.default_index(image.ome(array).get("omero"), kind, dim)
    if index is None or not 0 <= index < coordinate.size:
        index = coordinate.size // 2 if kind == "space" else 0
    return float(geometry.numbers(coordinate)[index])


# ---- which level -----------------------------------------------------------------------------


def _chosen_level(
    arrays: Sequence[xr.DataArray],
    choice: Choice,
    at: Mapping[str, float | str],
    dims: Sequence[str],
    channel_count: int,
) -> tuple[int, dict[str, Any]]:
    """Return the number of the chosen level, and what to take along its axes."""
    *over, down, right = dims
    indexers = {**choice.position, **at}
    flat = [dim for dim in (down, right) if not isinstance(indexers.get(dim, slice(0)), slice)]
    if flat:
        raise SelectionError(
            f"{flat[0]}: a picture needs a region of it: a slice, as {flat[0]}=slice('10 µm', '60 "
            "µm')"
        )
    where = selection.positions_of_levels(arrays, indexers)
    cropped = [array.isel(chosen) for array, chosen in zip(arrays, where, strict=True)]
    sizes = [_bytes(array, dims, channel_count) if over else 0 for array in cropped]
    number = _level(cropped, choice, (down, right), sizes)
    _check_projected(sizes, number, over)
    return number, where[number]


def _level(
    cropped: Sequence[xr.DataArray],
    choice: Choice,
    drawn: tuple[str, str],
    sizes: Sequence[int],
) -> int:
    if choice.level is not None:
        return ops.which_level(cropped, choice.level)
    fitting = (
        i
        for i, array in enumerate(cropped)
        if math.prod(array.sizes[dim] for dim in drawn) <= choice.max_pixels
        and sizes[i] <= MAX_PROJECTED
    )
    return next(fitting, len(cropped) - 1)


def _bytes(array: xr.DataArray, dims: Sequence[str], channel_count: int) -> int:
    return channel_count * array.dtype.itemsize * math.prod(array.sizes[dim] for dim in dims)


def _check_projected(sizes: Sequence[int], number: int, over: Sequence[str]) -> None:
    """Refuse a projection that reads more than a picture is worth, and say which one would do."""
    if sizes[number] <= MAX_PROJECTED:
        return
    coarser = next((i for i, size in enumerate(sizes) if size <= MAX_PROJECTED), None)
    todo = "no level is small enough" if coarser is None else f"level={coarser} is small enough"
    raise SelectionError(
        f"this projection would read {sizes[number]:,} bytes of level {number}, more than "
        f"{MAX_PROJECTED:,}: {todo}; a region of {over[0]} reads less ({over[0]}=slice(…))"
    )


def check_budget(array: xr.DataArray, dims: Sequence[str]) -> None:
    """Refuse to read so many chunks that a picture would never be done."""
    count = chunk_count(array, dims)
    if count > MAX_CHUNKS:
        raise SelectionError(
            f"this picture would read {count} chunks, more than {MAX_CHUNKS}, for there is no "
            f"coarser level: draw a region, with {dims[0]}=slice(…) and {dims[1]}=slice(…)"
        )


def chunk_count(array: xr.DataArray, dims: Sequence[str]) -> int:
    """Return about how many stored chunks lie under an array along some axes."""
    chunk = array.encoding.get("preferred_chunks") or {}
    sizes = {dim: array.sizes[dim] for dim in dims}
    return math.prod(math.ceil(n / _first(chunk.get(dim, n))) for dim, n in sizes.items() if n)


def _first(chunk: Any) -> int:
    """Return the size of the first chunk along an axis, of even or uneven ones."""
    return int(chunk[0] if isinstance(chunk, Sequence) else chunk) or 1


def _steps(array: xr.DataArray, plane: tuple[str, str], max_pixels: int) -> dict[str, slice]:
    """Return which pixels of a plane to take that has no level as small as was asked for."""
    pixels = math.prod(array.sizes[dim] for dim in plane)
    step = math.ceil(math.sqrt(pixels / max(max_pixels, 1)))
    return dict.fromkeys(plane, slice(None, None, step)) if step > 2 else {}


# ---- the pixels ------------------------------------------------------------------------------


def _values(
    array: xr.Variable, over: Sequence[str], down: str, how: Projection | None
) -> NDArray[Any]:
    """Return the (y, x) values of an array, projected over the axes that are not drawn."""
    if not over or how is None:
        return np.asarray(array.values)
    depth, rows = _block_sizes(array, over, down)
    parts = []
    for start in range(0, array.sizes[down], rows):
        part = array.isel({down: slice(start, start + rows)})
        parts.append(render.project(_slabs(part, over[0], depth, len(over)), how))
    return np.concatenate(parts)


def _block_sizes(array: xr.Variable, over: Sequence[str], down: str) -> tuple[int, int]:
    """Return how many planes and rows to read at a time: whole chunks, where they are small."""
    chunk = array.encoding.get("preferred_chunks") or {}
    depth, rows = (_first(chunk.get(dim, 1)) for dim in (over[0], down))
    rest = array.nbytes // (array.sizes[over[0]] * array.sizes[down])  # of a plane and row
    most = max(1, _SLAB // max(1, rest))
    if depth * array.sizes[down] <= most:
        return most // array.sizes[down] // depth * depth, array.sizes[down]
    if depth * rows <= most:
        return depth, most // depth // rows * rows
    return max(1, most // rows), min(rows, most)


def _slabs(array: xr.Variable, dim: str, depth: int, ndim: int) -> Iterator[NDArray[Any]]:
    """Yield an array slab by slab along an axis, as arrays with one axis to project over."""
    for start in range(0, array.sizes[dim], depth):
        values = array.isel({dim: slice(start, start + depth)}).values
        yield values.reshape(-1, *values.shape[ndim:])
