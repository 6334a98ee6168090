"""Transformations <-> coordinates, and selection in physical units.

The coordinates are the only truth about geometry; ``pixel_size`` serves where they are silent
(an axis of length one) and gives back the exact decimal that float steps only approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import transforms, units
from ngff_xarray.errors import SelectionError, UnitError, UnsupportedError
from ngff_xarray.model import Axis, Level
from ngff_xarray.transforms import Scale, Transformation, Translation

# a selection must reach this far into a pixel to take it: float noise at the edges does not
_TOUCH = 1e-6


def coordinates(
    axes: Sequence[Axis],
    shape: Sequence[int],
    transformation: Transformation,
    channel_names: Sequence[str],
) -> dict[str, xr.Variable]:
    """Return the coordinate of every axis: pixel centres, or the names of the channels.

    Parameters
    ----------
    axes
        The axes, in the order of the array.
    shape
        The length of each.
    transformation
        From array indices to coordinates, in the axes' units.
    channel_names
        One name an entry of the channel axis; one of another length gets numbers.

    Examples
    --------
    >>> from ngff_xarray.transforms import Scale
    >>> y, x = Axis("y", "space", "micrometer"), Axis("x", "space", "micrometer")
    >>> coordinates([y, x], (1, 3), Scale((0.5, 0.25)), [])["x"].values
    array([0.  , 0.25, 0.5 ])
    """
    scale, translation = transforms.scale_and_translation(transformation, len(axes))
    return {
        axis.name: _channel_names(axis, size, channel_names, step)
        if axis.type == "channel"
        else _centres(axis, size, step, start)
        for axis, size, step, start in zip(axes, shape, scale, translation, strict=True)
    }


def are_distinct(size: int, step: float, start: float) -> bool:
    """Tell whether floats hold the centres of all pixels of an axis, apart from each other.

    Examples
    --------
    >>> are_distinct(100, 0.1, 1e6), are_distinct(100, 1e-3, 1e15), are_distinct(9, 1e308, 0.0)
    (True, False, False)
    """
    if size > 2**62:
        return False
    with np.errstate(over="ignore"):
        farthest = max(abs(start), abs(start + np.float64(step) * max(size - 1, 0)))
    return bool(np.isfinite(farthest) and (size < 2 or abs(step) > 4 * np.spacing(farthest)))


def _centres(axis: Axis, size: int, step: float, start: float) -> xr.Variable:
    return xr.Variable(axis.name, np.arange(size) * step + start, _attrs(axis, abs(step)))


def _channel_names(axis: Axis, size: int, names: Sequence[str], step: float) -> xr.Variable:
    attrs = _attrs(axis, abs(step))
    if step == 1:
        del attrs["pixel_size"]
    if len(names) != size:
        names = [str(i) for i in range(size)]
    return xr.Variable(axis.name, np.asarray(names, dtype=np.str_), attrs)


def _attrs(axis: Axis, pixel_size: float) -> dict[str, Any]:
    attrs = {
        "units": axis.unit,
        "axis_type": axis.type,
        "pixel_size": pixel_size,
        "long_name": axis.long_name,
    }
    return {key: value for key, value in attrs.items() if value is not None}


def pixel_size(coordinate: xr.DataArray) -> float | None:
    """Return the distance of neighbouring pixels, or None where it is unknown or uneven.

    Parameters
    ----------
    coordinate
        A one-dimensional coordinate, cropped, strided or reversed as it may be.

    Examples
    --------
    >>> x = xr.DataArray([0.0, 0.1, 0.2, 0.30000000000000004], dims="x", attrs={"pixel_size": 0.1})
    >>> pixel_size(x), pixel_size(x[::-3]), pixel_size(x[:1]), pixel_size(x[[0, 1, 3]])
    (0.1, 0.3, 0.1, None)
    """
    stated = _stated(coordinate)
    if not is_numeric(coordinate) or coordinate.size < 2:
        return stated
    values = numbers(coordinate)
    step = (values[-1] - values[0]) / (values.size - 1)
    noise = 8 * np.finfo(np.float64).eps * max(np.abs(values).max(), abs(step))
    if step == 0 or np.abs(np.diff(values) - step).max() > noise + 1e-9 * abs(step):
        return None
    return _exact(abs(float(step)), stated, noise)


def numbers(coordinate: xr.DataArray) -> NDArray[np.float64]:
    """Return the positions of the pixels, in the coordinate's `unit`; those of one are (1,)."""
    data = coordinate.data
    return np.atleast_1d(np.asarray(getattr(data, "magnitude", data), dtype=np.float64))


def unit(coordinate: xr.DataArray) -> str | None:
    """Return the specification's name of a coordinate's unit, or None.

    It stands in the attributes; coordinates that were quantified carry it as pint's.
    """
    units_of_data = getattr(coordinate.data, "units", None)
    return units.known(str(units_of_data) if units_of_data else coordinate.attrs.get("units"))


def is_numeric(coordinate: xr.DataArray) -> bool:
    """Tell whether a coordinate holds positions, not names."""
    return coordinate.dtype.kind in "fiu"


def _stated(coordinate: xr.DataArray) -> float | None:
    value = coordinate.attrs.get("pixel_size")
    if isinstance(value, str) and " " in value:  # with its unit: of a quantified coordinate
        try:
            value = units.magnitude(value, unit(coordinate))
        except UnitError:
            return None
    if isinstance(value, int | float | np.number) and np.isfinite(value) and value > 0:
        return float(value)
    return None


def _exact(step: float, stated: float | None, noise: float) -> float:
    """Return the multiple of the stated pixel size that the step approximates, or the step."""
    if stated is None:
        return step
    times = round(step / stated)
    if times < 1 or abs(times * stated - step) > noise + 1e-12 * step:
        return step
    return stated if times == 1 else float(f"{times * stated:.15g}")


def edges(coordinate: xr.DataArray) -> NDArray[np.float64]:
    """Return the bounds of the pixels along an axis: one more than there are pixels.

    Pixels reach half-way to their neighbours, those at the ends as far outward as inward.
    """
    centres = numbers(coordinate)
    if not centres.size:
        raise SelectionError(f"{coordinate.name}: the axis is empty: take a larger region first")
    if centres.size < 2:
        half = (pixel_size(coordinate) or 1.0) / 2
        return np.concatenate([centres - half, centres[-1:] + half])
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])


def covering(coordinate: xr.DataArray, start: float | None, stop: float | None) -> slice:
    """Return the pixels that a region touches, as a slice of indices.

    Parameters
    ----------
    coordinate
        A monotonic coordinate of pixel centres.
    start, stop
        The region's bounds in the coordinate's units; None leaves a side open.

    Raises
    ------
    SelectionError
        If the region lies outside the image.

    Examples
    --------
    >>> x = xr.DataArray([0.0, 0.5, 1.0, 1.5], dims="x")
    >>> covering(x, 0.3, 1.0)
    slice(1, 3, None)
    """
    bounds = edges(coordinate)
    descending = bool(bounds[0] > bounds[-1])
    rising = bounds[::-1] if descending else bounds
    count = rising.size - 1
    low, high = _ordered(start, stop, rising)
    slack = _slack(rising)
    first = int(np.searchsorted(rising[1:], low + slack, side="left"))
    last = int(np.searchsorted(rising[:-1], high - slack, side="right"))
    if first >= last:  # no pixel is touched, or the region is as thin as a hair
        if low < rising[0] - slack or high > rising[-1] + slack:
            raise SelectionError(_outside(coordinate, f"{low:.12g} to {high:.12g}", rising))
        first = min(int(np.searchsorted(rising[1:], (low + high) / 2, side="right")), count - 1)
        last = first + 1
    return slice(count - last, count - first) if descending else slice(first, last)


def _slack(rising: NDArray[np.float64]) -> float:
    """Return how far beside an edge a position still stands on it."""
    pixel = (rising[-1] - rising[0]) / (rising.size - 1)
    noise = 4 * np.finfo(np.float64).eps * np.abs(rising).max()
    return float(min(_TOUCH * pixel + noise, pixel / 4))


def _ordered(
    start: float | None, stop: float | None, rising: NDArray[np.float64]
) -> tuple[float, float]:
    low = rising[0] if start is None else start
    high = rising[-1] if stop is None else stop
    if np.isnan(low) or np.isnan(high):
        raise SelectionError(
            "a region cannot start or stop at NaN: give numbers, text such as '10 µm', or None for "
            "the end of the image"
        )
    return (low, high) if low <= high else (high, low)


def nearest(coordinate: xr.DataArray, position: float) -> int:
    """Return the index of the pixel that holds a position.

    Raises
    ------
    SelectionError
        If no pixel does.

    Examples
    --------
    >>> nearest(xr.DataArray([0.0, 0.5, 1.0], dims="x"), 0.6)
    1
    """
    bounds = np.sort(edges(coordinate))
    slack = _slack(bounds)
    if not bounds[0] - slack <= position <= bounds[-1] + slack:
        raise SelectionError(_outside(coordinate, f"{position:.12g}", bounds))
    return int(np.argmin(np.abs(numbers(coordinate) - position)))


def _outside(coordinate: xr.DataArray, asked: str, bounds: NDArray[np.float64]) -> str:
    named = unit(coordinate)
    suffix = f" {named}" if named else ""
    return (
        f"{coordinate.name}: {asked}{suffix} lies outside the image, "
        f"which reaches from {bounds[0]:.12g} to {bounds[-1]:.12g}{suffix}"
    )


def clipped(coordinate: xr.DataArray, position: float) -> float:
    """Return the position, or the end of the image that it lies beyond."""
    bounds = edges(coordinate)
    return float(np.clip(position, np.min(bounds), np.max(bounds)))


def position(value: object, coordinate: xr.DataArray) -> float:
    """Return a user's position (number, quantity or text) in the coordinate's units.

    Raises
    ------
    UnitError
        If it cannot be understood or converted.
    """
    return units.magnitude(value, unit(coordinate))


def placed_by_size(
    finest: Sequence[int], shape: Sequence[int], axes: Sequence[Axis]
) -> transforms.Sequence:
    """Return where a level lies that only its size tells: in pixels of the finest level.

    Both cover the same region. The factor is a whole number where one fits the sizes; a
    channel axis is never scaled.

    Examples
    --------
    >>> y, x = Axis("y", "space"), Axis("x", "space")
    >>> placed_by_size((64, 99), (32, 50), [y, x]).apply([0.0, 0.0])
    array([0.5, 0.5])
    """
    factors = tuple(
        1.0 if axis.type == "channel" else _factor(whole, size)
        for axis, whole, size in zip(axes, finest, shape, strict=True)
    )
    offsets = tuple((factor - 1) / 2 for factor in factors)
    return transforms.Sequence((Scale(factors), Translation(offsets)))


def placed(
    levels: Sequence[Level], shapes: Sequence[tuple[int, ...]], axes: Sequence[Axis]
) -> tuple[Level, ...]:
    """Return the levels, those that the metadata do not place placed by their size."""
    return tuple(
        level
        if level.transformation is not None
        else replace(level, transformation=placed_by_size(shapes[0], shape, axes))
        for level, shape in zip(levels, shapes, strict=True)
    )


def _factor(whole: int, size: int) -> float:
    if not whole or not size:
        return 1.0
    nearest_whole = max(1, round(whole / size))
    fits = whole // nearest_whole == size or -(-whole // nearest_whole) == size
    return float(nearest_whole) if fits else whole / size


def placement(array: xr.DataArray, axes: Sequence[Axis]) -> transforms.Sequence:
    """Return the scale and translation that the coordinates of an array say.

    Raises
    ------
    UnsupportedError
        If the pixels along an axis are not evenly spaced, or of no size.

    Examples
    --------
    >>> x = xr.DataArray([20.0, 20.25, 20.5], dims="x", attrs={"pixel_size": 0.25})
    >>> array = xr.DataArray([0, 0, 0], dims="x", coords={"x": x})
    >>> placement(array, [Axis("x", "space")]).apply([2.0])
    array([20.5])
    """
    placed = [_placed(array, axis) for axis in axes]
    return transforms.Sequence(
        (Scale(tuple(scale for scale, _ in placed)), Translation(tuple(o for _, o in placed)))
    )


def _placed(array: xr.DataArray, axis: Axis) -> tuple[float, float]:
    if axis.name not in array.coords:
        return 1.0, 0.0
    coordinate = array.coords[axis.name]
    if axis.type == "channel" or not is_numeric(coordinate):
        return _stated(coordinate) or 1.0, 0.0
    if not coordinate.size:
        return _stated(coordinate) or 1.0, 0.0
    step = pixel_size(coordinate)
    values = numbers(coordinate)
    if step is None and values.size > 1:
        raise UnsupportedError(
            f"axis {axis.name}: the pixels are not evenly spaced, which OME-Zarr cannot say: "
            "select them with an even step, or resample the image"
        )
    backwards = values.size > 1 and values[-1] < values[0]
    return (-1.0 if backwards else 1.0) * (step or 1.0), float(values[0])
