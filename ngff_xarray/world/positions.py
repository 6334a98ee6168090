"""Coordinates as numbers: where the pixels of an object are, as a transformation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import SelectionError, TransformationError
from ngff_xarray.model import Axis, CoordinateSystem, Json
from ngff_xarray.spec import omero
from ngff_xarray.transforms import (
    ByDimension,
    Part,
    ProjectAxis,
    Scale,
    Transformation,
    Translation,
)
from ngff_xarray.transforms import Sequence as Steps

Floats = NDArray[np.float64]


def _numeric(obj: xr.DataArray | xr.Dataset, axis: Axis) -> xr.DataArray:
    """Return the positions along an axis in its unit: (n,), or () where one was selected.

    A channel is its place among those of the store.
    """
    if axis.name not in obj.coords:
        numbers = np.arange(obj.sizes[axis.name], dtype=np.float64)
        return xr.DataArray(numbers, dims=axis.name, name=axis.name)
    coordinate = obj.coords[axis.name]
    if not geometry.is_numeric(coordinate):
        numbers = _channel_numbers(coordinate, image.ome(obj))
        numbers = numbers.reshape(coordinate.shape)
        return xr.DataArray(numbers, dims=coordinate.dims, name=axis.name)
    factor = units.factor(geometry.unit(coordinate), axis.unit)
    stated = geometry.pixel_size(coordinate[:1] if coordinate.ndim else coordinate)
    attrs = {} if stated is None else {"pixel_size": stated * factor}
    values = geometry.numbers(coordinate).reshape(coordinate.shape) * factor
    return xr.DataArray(values, dims=coordinate.dims, attrs=attrs, name=axis.name)


def _channel_numbers(coordinate: xr.DataArray, said: Json) -> Floats:
    names = [str(name) for name in np.atleast_1d(coordinate.values).tolist()]
    known = list(omero.by_name(said.get("omero")))
    if set(names) <= set(known):
        numbers = [known.index(name) for name in names]
    elif all(name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
    else:
        numbers = list(range(len(names)))
    return np.array(numbers, dtype=np.float64)


def _along(positions: xr.DataArray) -> Transformation:
    """Return what leads from indices along an axis to positions."""
    values = geometry.numbers(positions)
    if not values.size:
        raise SelectionError(f"{positions.name}: the axis is empty: it has no pixels")
    step = geometry.pixel_size(positions)
    if values.size > 1 and step is None:
        return _Lookup(np.arange(values.size, dtype=np.float64), values)
    step = math.copysign(1.0 if step is None else step, values[-1] - values[0])
    return Steps((Scale((step,)), Translation((float(values[0]),))))


@dataclass(frozen=True, slots=True, eq=False)
class _Lookup:
    """Leads from some numbers to others, and straight on between and beyond them."""

    inputs: Floats
    outputs: Floats

    def apply(self, points: ArrayLike) -> Floats:
        found = np.asarray(points, dtype=np.float64)
        low, high = self.inputs[[0, 1]], self.inputs[[-2, -1]]
        result = np.interp(found, self.inputs, self.outputs)
        slopes = np.diff(self.outputs)[[0, -1]] / np.array([np.diff(low)[0], np.diff(high)[0]])
        result += np.minimum(found - low[0], 0) * slopes[0]
        result += np.maximum(found - high[1], 0) * slopes[1]
        return result

    def inverse(self) -> _Lookup:
        steps = np.diff(self.outputs)
        if (steps > 0).all():
            return _Lookup(self.outputs, self.inputs)
        if (steps < 0).all():
            return _Lookup(self.outputs[::-1], self.inputs[::-1])
        raise TransformationError("positions that neither rise nor fall have no inverse")

    def ndim_out(self, ndim: int) -> int:
        if ndim != 1:
            raise TransformationError(f"positions along an axis are of 1 axis, found {ndim}")
        return 1

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        return np.ones((self.ndim_out(ndim), 1), dtype=np.bool_)


def _side_by_side(parts: Sequence[Transformation]) -> Transformation:
    """Return what applies one transformation to each axis."""
    return ByDimension(tuple(Part(part, (i,), (i,)) for i, part in enumerate(parts)))


def _placement(array: xr.DataArray, system: CoordinateSystem) -> Transformation:
    """Return what leads from the pixel indices of an array to the system it is in."""
    missing = [
        axis.name
        for axis in system.axes
        if axis.name not in array.dims and axis.name not in array.coords
    ]
    strange = [str(dim) for dim in array.dims if dim not in {axis.name for axis in system.axes}]
    if missing or strange:
        raise TransformationError(
            f"the array has dimensions {tuple(array.dims)}, "
            f"which do not lead to the axes {_names(system)} of {system.name!r}"
        )
    held = [axis for axis in system.axes if axis.name in array.dims]
    fixed = tuple(i for i, axis in enumerate(system.axes) if axis.name not in array.dims)
    at = [0.0 if axis in held else float(_numeric(array, axis)) for axis in system.axes]
    order = tuple(
        Part(_along(_numeric(array, axis)), (array.dims.index(axis.name),), (i,))
        for i, axis in enumerate(held)
    )
    return Steps((ByDimension(order), ProjectAxis((), fixed), Translation(tuple(at))))


def _picked(system: CoordinateSystem, wanted: CoordinateSystem) -> Transformation:
    """Return what leads from a system to one of some of its axes, by name."""
    places = {axis.name: i for i, axis in enumerate(system.axes)}
    return ByDimension(
        tuple(
            Part(
                Scale((units.factor(system.axes[places[axis.name]].unit, axis.unit),)),
                (places[axis.name],),
                (i,),
            )
            for i, axis in enumerate(wanted.axes)
        )
    )


def _names(system: CoordinateSystem) -> str:
    return ", ".join(axis.name for axis in system.axes)
