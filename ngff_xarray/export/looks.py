"""How an image looks and where it lies, in the words that viewers share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import channels, geometry, image, render
from ngff_xarray.channels import Channels
from ngff_xarray.errors import UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.model import RGB, Channel

_STRAIGHT = 1e-6  # pixels that a coordinate may lie beside where a linear one would be


@dataclass(frozen=True, slots=True)
class Look:
    """One channel, and how to draw it.

    Parameters
    ----------
    index
        Its place on the channel axis, None where there is no such axis.
    channel
        Its name, window, gamma and the rest; what was computed has no window.
    color
        Its colour; one of ours where the store says none.
    """

    index: int | None
    channel: Channel
    color: RGB

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values drawn darkest and brightest, the smaller first; None where nothing is said."""
        window = self.channel.window
        if window is None or window.start == window.end:
            return None
        low, high = sorted((float(window.start), float(window.end)))
        return low, high

    @property
    def is_inverted(self) -> bool:
        """Whether the lower limit is in the full colour."""
        window = self.channel.window
        backwards = window is not None and window.start > window.end
        return self.channel.inverted != backwards

    def table(self) -> NDArray[np.uint8]:
        """Return its colours from the lower limit to the upper, (n, 3): two where that is all."""
        if self.channel.colormap is None:
            found = np.array([(0, 0, 0), self.color], np.uint8)
        else:
            found = channels.table(self.channel.colormap)
        return found[::-1] if self.is_inverted else found


def looks(obj: Obj, wanted: Channels = None) -> list[Look]:
    """Return the channels of an image, all of them or those that are wanted.

    Raises
    ------
    SelectionError
        If one that is wanted is not there, or cannot be drawn so.
    """
    array = image.levels(obj)[0]
    stored = channels.stored(array, obj)
    if "chunks" not in array.encoding and image.ome(obj).get("omero"):
        # of values that were computed, the window of those in the store says nothing
        stored = tuple(replace(channel, window=None) for channel in stored)
    indices, chosen = list(range(len(stored))), list(stored)
    if wanted is not None:
        indices, chosen = channels.chosen(stored, wanted)
    has_axis = image.channel_dim(array) is not None
    colors = render.channel_colors(len(stored))
    return [
        Look(i if has_axis else None, channel, channel.color or colors[i])
        for i, channel in zip(indices, chosen, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the pixels of an array lie: world = matrix · index + origin.

    Parameters
    ----------
    names
        The axes of the world, one a dimension.
    units
        The specification's name of the unit of each, or None.
    matrix
        (axes, dimensions), in these units.
    origin
        (axes,): the centre of the first pixel.
    """

    names: tuple[str, ...]
    units: tuple[str | None, ...]
    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]

    @property
    def scale(self) -> tuple[float, ...] | None:
        """The pixel size along each axis, None where axes are rotated or sheared."""
        diagonal = np.diag(self.matrix)
        is_plain = not np.any(self.matrix - np.diag(diagonal))
        return tuple(map(float, diagonal)) if is_plain else None


def placed(array: xr.DataArray, dims: Sequence[str]) -> Placed:
    """Return where the pixels of an array lie, in the system of its coordinates.

    Parameters
    ----------
    array
        One level.
    dims
        The dimensions to place, in the order that is wanted.

    Raises
    ------
    UnsupportedError
        If its coordinates are bent, or have more axes than it has dimensions.

    Examples
    --------
    >>> x = xr.DataArray([20.0, 20.5], dims="x", attrs={"units": "micrometer"})
    >>> found = placed(xr.DataArray([0, 0], dims="x", coords={"x": x}), ["x"])
    >>> found.scale, found.origin, found.units
    ((0.5,), array([20.]), ('micrometer',))
    """
    names = _world(array, dims)
    matrix, origin = np.zeros((len(names), len(dims))), np.zeros(len(names))
    units: list[str | None] = []
    for row, name in enumerate(names):
        coordinate = array[name]
        units.append(geometry.unit(coordinate))
        origin[row], steps = _linear(coordinate)
        for dim, step in steps.items():
            if dim in dims:
                matrix[row, dims.index(dim)] = step
    return Placed(names, tuple(units), matrix, origin)


def _world(array: xr.DataArray, dims: Sequence[str]) -> tuple[str, ...]:
    """Return the axes of the world for some dimensions, in an order that keeps most in place."""
    said = image.ome(array).get("placed") or {}
    created = [
        name
        for name in said.get("axes", ())
        if name in array.coords and set(map(str, array[name].dims)) & set(dims)
    ]
    mixed = {str(dim) for name in created for dim in array[name].dims}
    if len(mixed) != len(created):
        raise UnsupportedError(
            f"its pixels along {', '.join(sorted(mixed))} lie in {len(created)} axes of the world "
            f"({', '.join(created)}): resample it first: tree.ngff.resample(system=…)"
        )
    order = [
        axis.get("name")
        for system in said.get("coordinateSystems", ())
        if system.get("name") == said.get("system")
        for axis in system.get("axes", ())
    ]
    rest = iter(sorted(created, key=lambda name: order.index(name) if name in order else -1))
    return tuple(next(rest) if dim in mixed else dim for dim in dims)


def _linear(coordinate: xr.DataArray) -> tuple[float, Mapping[str, float]]:
    """Return the first position, and the step along each dimension."""
    dims = [str(dim) for dim in coordinate.dims]
    if not geometry.is_numeric(coordinate) or not coordinate.size:
        return 0.0, dict.fromkeys(dims, 1.0)
    first = _at(coordinate, {})
    if not math.isfinite(first):
        return 0.0, dict.fromkeys(dims, 1.0)
    if len(dims) == 1:
        return first, {dims[0]: _step(coordinate, dims[0], first)}
    steps = {dim: _mean(coordinate, dim, first) for dim in dims}
    ends = {dim: coordinate.sizes[dim] - 1 for dim in dims}
    last = first + sum(steps[dim] * ends[dim] for dim in dims)
    middle = first + sum(steps[dim] * (ends[dim] // 2) for dim in dims)
    found = _at(coordinate, ends), _at(coordinate, {dim: ends[dim] // 2 for dim in dims})
    slack = _STRAIGHT * max(map(abs, steps.values()))
    if max(abs(last - found[0]), abs(middle - found[1])) > slack:
        raise UnsupportedError(
            f"its coordinate {coordinate.name} is bent: no rotation or shear says where its pixels "
            "are: resample it first: tree.ngff.resample(system=…)"
        )
    return first, steps


def _at(coordinate: xr.DataArray, ends: Mapping[str, int]) -> float:
    at = {str(dim): ends.get(str(dim), 0) for dim in coordinate.dims}
    return float(geometry.numbers(coordinate.isel(at))[0])


def _step(coordinate: xr.DataArray, dim: str, first: float) -> float:
    """Return the step along an axis of its own; the mean one where they are uneven."""
    size = geometry.pixel_size(coordinate)
    if size is None:
        return _mean(coordinate, dim, first) or 1.0
    return math.copysign(size, _at(coordinate, {dim: coordinate.sizes[dim] - 1}) - first)


def _mean(coordinate: xr.DataArray, dim: str, first: float) -> float:
    count = coordinate.sizes[dim]
    return (_at(coordinate, {dim: count - 1}) - first) / (count - 1) if count > 1 else 0.0


def upright(array: xr.DataArray) -> list[str]:
    """Return the dimensions that are not of channels, those of a picture last: …, z, y, x."""
    down, right = image.plane_dims(array)
    space = [axis.name for axis in image.axes(array) if axis.type == "space"]
    channel = image.channel_dim(array)
    others = [str(d) for d in array.dims if d not in (channel, down, right)]
    return [*sorted(others, key=lambda dim: dim in space), down, right]
