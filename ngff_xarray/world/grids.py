"""The grid that an image is resampled onto."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ngff_xarray import geometry, units
from ngff_xarray.errors import SelectionError, TransformationError, UnitError
from ngff_xarray.model import Axis
from ngff_xarray.world.placing import _attrs, _layout, _mesh
from ngff_xarray.world.positions import Floats, _numeric
from ngff_xarray.world.ways import _Group, _Way

_MOST = 2**24  # pixels along an axis


def _wanted_sizes(pixel_size: object, way: _Way, array: xr.DataArray) -> dict[int, float]:
    """Return the pixel size asked for along axes of the system, by their number."""
    axes = way.target.axes
    if pixel_size is None:
        return {}
    if isinstance(pixel_size, Mapping):
        along = {axes[k].name: k for group in _layout(way, array).groups for k in group.outputs}
        wanted = dict(pixel_size)
    else:
        along = _space_axes(way, array)
        wanted = dict.fromkeys(along, pixel_size)
    sizes = {}
    for name, size in wanted.items():
        if name not in along:
            known = ", ".join(along)
            raise SelectionError(f"pixel_size: there is no axis {name!r}; the axes are {known}")
        if axes[along[name]].type == "channel":
            raise SelectionError(f"pixel_size: {name!r} is an axis of channels, which have none")
        sizes[along[name]] = units.magnitude(size, axes[along[name]].unit)
        if not 0 < sizes[along[name]] < math.inf:
            raise SelectionError(f"pixel_size: expected more than 0, found {size!r} for {name!r}")
    return sizes


def _space_axes(way: _Way, array: xr.DataArray) -> dict[str, int]:
    """Return the axes of space that have more than one pixel, or mix."""
    found = {}
    for group in _layout(way, array).groups:
        single = [array.sizes[way.source.axes[i].name] == 1 for i in group.inputs]
        for k in group.outputs:
            if way.target.axes[k].type == "space" and group.inputs and single != [True]:
                found[way.target.axes[k].name] = k
    return found


def _grids_of(like: xr.DataArray, way: _Way) -> dict[int, xr.Variable]:
    """Return the coordinates of an image in the system, by the number of the axis."""
    found = {}
    for k, axis in enumerate(way.target.axes):
        coordinate = like.coords.get(axis.name)
        if coordinate is None or axis.type == "channel" or not geometry.is_numeric(coordinate):
            continue
        if coordinate.ndim > 1 or coordinate.dims not in ((), (axis.name,)):
            raise SelectionError(
                f"like: {axis.name!r} is no ordinary coordinate: expected an image whose axes do "
                "not mix, such as one that was resampled"
            )
        found[k] = coordinate.variable
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """The pixel sizes and grids that are asked for, by the number of the system's axis."""

    way: _Way
    sizes: Mapping[int, float]
    grids: Mapping[int, xr.Variable]

    def level(self, arrays: Sequence[xr.DataArray]) -> int:
        """Return the coarsest level whose pixels are no larger than those asked for."""
        if not self.sizes and not self.grids:
            return 0
        limits = self._limits(arrays[0])
        good = 0
        for number, array in enumerate(arrays):
            found = self._lengths(array)
            if all(found[i] <= limit * (1 + 1e-9) for i, limit in limits.items()):
                good = number
        return good

    def _limits(self, finest: xr.DataArray) -> dict[int, float]:
        """Return how long the pixels may be along each of the source's axes."""
        limits = self._lengths(finest)
        for group in _layout(self.way, finest).groups:
            lengths = [
                size * self._factor(group, k)
                for k in group.outputs
                if (size := self._size(k)) is not None
            ]
            for i in group.inputs if lengths else ():
                limits[i] = max(limits[i], min(lengths))
        return limits

    def _size(self, number: int) -> float | None:
        if number in self.grids:
            axis = self.way.target.axes[number]
            grid = self.grids[number]
            step = geometry.pixel_size(xr.DataArray(grid)) if grid.ndim else None
            factor = units.factor(geometry.unit(xr.DataArray(grid)), axis.unit)
            return None if step is None else step * factor
        return self.sizes.get(number)

    def _factor(self, group: _Group, number: int) -> float:
        """Return what makes lengths along an axis lengths along the first of its group."""
        axes = self.way.target.axes
        try:
            return units.factor(axes[number].unit, axes[group.outputs[0]].unit)
        except UnitError:
            return 1.0

    def _lengths(self, array: xr.DataArray) -> dict[int, float]:
        """Return how long a pixel is along each of the source's axes, where it goes."""
        positions = [_numeric(array, axis) for axis in self.way.source.axes]
        centre = [float(np.mean(_ends(p))) for p in positions]
        lengths = {}
        for group in _layout(self.way, array).groups:
            for i in group.inputs:
                step = geometry.pixel_size(positions[i]) or float(
                    np.ptp(positions[i].values) / max(positions[i].size - 1, 1)
                )
                moved = [*centre[:i], centre[i] + step, *centre[i + 1 :]]
                ends = [self.way.function([np.asarray(v) for v in at]) for at in (centre, moved)]
                sides = [
                    float(ends[1][k] - ends[0][k]) * self._factor(group, k) for k in group.outputs
                ]
                lengths[i] = math.hypot(*sides) if sides else step
        return lengths

    def grids_over(self, array: xr.DataArray) -> dict[int, xr.Variable]:
        """Return the coordinates of all axes that are resampled, over the whole of an array."""
        found: dict[int, xr.Variable] = {}
        lengths = self._lengths(array)
        for group in _layout(self.way, array).groups:
            asked = {k for k in group.outputs if k in self.sizes or k in self.grids}
            if not group.inputs or not group.outputs or (group.is_plain and not asked):
                continue
            finest = min(lengths[i] for i in group.inputs)
            ends = None
            for k in group.outputs:
                if k in self.grids:
                    found[k] = self.grids[k]
                    continue
                ends = ends or _extent(self.way, group, array)
                size = self.sizes.get(k) or float(f"{finest / self._factor(group, k):.12g}")
                found[k] = _even_grid(self.way.target.axes[k], *ends[k], size)
            if group.is_plain and self._is_there(array, group, found[group.outputs[0]]):
                del found[group.outputs[0]]
        return found

    def _is_there(self, array: xr.DataArray, group: _Group, grid: xr.Variable) -> bool:
        """Tell whether the pixels of an axis of its own stand on a grid already."""
        (k,) = group.outputs
        if k in self.grids:
            return False
        positions = [_numeric(array, axis).values for axis in self.way.source.axes]
        inputs = [
            p if i in group.inputs or not p.ndim else np.asarray(0.0)
            for i, p in enumerate(positions)
        ]
        now = self.way.function.output(k, inputs)
        step = grid.attrs["pixel_size"]
        return now.shape == grid.shape and np.allclose(now, grid.values, rtol=0, atol=1e-6 * step)


def _ends(positions: xr.DataArray) -> Floats:
    """Return the outer edges of the pixels along an axis, or where it was selected."""
    if not positions.ndim:
        return geometry.numbers(positions)
    return geometry.edges(positions)[[0, -1]]


def _extent(way: _Way, group: _Group, array: xr.DataArray) -> dict[int, tuple[float, float]]:
    """Return from where to where an image reaches along the axes of a group."""
    ends = [_ends(_numeric(array, axis)) for axis in way.source.axes]
    low = dict.fromkeys(group.outputs, math.inf)
    high = dict.fromkeys(group.outputs, -math.inf)
    for inputs in _border([ends[i] for i in group.inputs], curved=way.function.linear is None):
        values = [np.asarray(end[0]) for end in ends]
        for i, along in zip(group.inputs, inputs, strict=True):
            values[i] = along
        found = way.function(values)
        for k in group.outputs:
            known = found[k][np.isfinite(found[k])]
            if known.size:
                low[k] = min(low[k], float(np.min(known)))
                high[k] = max(high[k], float(np.max(known)))
    if not all(low[k] <= high[k] for k in group.outputs):
        raise TransformationError(f"the image reaches no finite place of {way.target.name!r}")
    return {k: (low[k], high[k]) for k in group.outputs}


def _border(ends: Sequence[Floats], *, curved: bool) -> Iterator[list[Floats]]:
    """Yield points on the faces of a box, or its corners only, as arrays that broadcast."""
    if not curved:
        yield _mesh(ends)
        return
    count = {1: 1025, 2: 1025, 3: 65}.get(len(ends), 17)
    lines = [np.linspace(float(end[0]), float(end[1]), count) for end in ends]
    for axis, end in enumerate(ends):
        yield _mesh([*lines[:axis], end, *lines[axis + 1 :]])


def _even_grid(axis: Axis, low: float, high: float, size: float) -> xr.Variable:
    """Return the centres of pixels of one size from one end to the other."""
    count = max(1, math.ceil((high - low) / size - 1e-6))
    if count > _MOST:
        raise SelectionError(
            f"{axis.name}: pixels of {size:.6g} would be {count}, more than {_MOST}: give larger "
            "ones, or crop the image"
        )
    first = float(f"{round(low / size + 0.5, 9) * size:.15g}")
    return xr.Variable(axis.name, first + np.arange(count) * size, _attrs(axis, size))
