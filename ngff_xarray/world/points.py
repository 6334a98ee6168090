"""Points of one coordinate system in another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ngff_xarray import units
from ngff_xarray.errors import TransformationError
from ngff_xarray.image import Obj, levels
from ngff_xarray.model import CoordinateSystem
from ngff_xarray.world.connections import _is_scene, coordinate_systems, current_system, graph
from ngff_xarray.world.positions import Floats, _names, _numeric
from ngff_xarray.world.restoring import restored


def transform(
    obj: Obj, points: ArrayLike | Mapping[str, Any], *, from_: str | None = None, to: str
) -> Floats:
    """Return points of one coordinate system in another.

    Parameters
    ----------
    obj
        An image or a scene.
    points
        An array of shape ``(..., axes)`` in the order of the system's axes, of numbers in their
        units or one quantity that all axes can have; or a mapping of axis
        names to values (numbers in the axis's unit, quantities, or text such as ``"10 µm"``),
        which are broadcast against one another. Where an axis of the image was dropped by
        selecting, a mapping may leave it out. A channel is its index.
    from_, to
        The names of the systems, as `graph` has them: those of `coordinate_systems`, and the
        pixel indices of a level under its path. ``from_`` is the one that the image's coordinates
        are in, unless given; of a scene it has to be.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., axes)``, in the units of the system that they are in now. Transformations
        say numbers, not quantities: one that says "identity" leaves them alone, whatever units
        the two systems have.

    Raises
    ------
    TransformationError
        If there is no such system, nothing leads there, or the points do not fit.
    UnitError
        If a quantity cannot be converted.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.DataArray([[0, 0]], dims=("y", "x"), coords={"x": [5.0, 5.5]})
    >>> transform(image, {"y": 0, "x": [5.0, 6.0]}, to="array")
    array([[0., 0.], [0., 2.]])
    """
    obj = restored(obj) if _is_scene(obj) else obj
    whole = graph(obj)
    if from_ is None:
        if _is_scene(obj):
            known = ", ".join(map(repr, coordinate_systems(obj)))
            raise TransformationError(f"a scene has many systems: give from_, one of {known}")
        from_ = current_system(obj)
    path = whole.path(from_, to)
    system = whole.systems[from_]
    if not isinstance(points, Mapping):
        return path.apply(_rows(_bare(points), from_, system))
    if system is None:
        raise TransformationError(f"the axes of {from_!r} are not described: give points as array")
    fixed = {} if _is_scene(obj) or from_ != current_system(obj) else _selected(obj, system)
    return path.apply(_stacked(points, system, fixed))


def _rows(points: Any, name: str, system: CoordinateSystem | None) -> Floats:
    """Return an array of points as numbers in the units of the axes."""
    try:
        found = np.asarray(getattr(points, "magnitude", points), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TransformationError(
            f"expected numbers of shape (..., axes), or a mapping of axis names to values: {error}"
        ) from error
    if system is None:
        if hasattr(points, "magnitude"):
            raise TransformationError(f"the axes of {name!r} are not described: give numbers")
        return found
    if not found.ndim or found.shape[-1] != len(system.axes):
        raise TransformationError(
            f"points of {name!r} have {len(system.axes)} axes ({_names(system)}): expected "
            f"shape (..., {len(system.axes)}), found {found.shape}"
        )
    if not hasattr(points, "magnitude"):
        return found
    return found * [_factor(points, axis.unit) for axis in system.axes]


def _bare(values: Any) -> Any:
    """Return what an xarray object holds: numpy would take its numbers and leave its units."""
    return values.data if isinstance(values, xr.DataArray | xr.Variable) else values


def _factor(quantity: Any, unit: str | None) -> float:
    return units.magnitude(type(quantity)(1.0, quantity.units), unit)


def _selected(obj: Obj, system: CoordinateSystem) -> dict[str, float]:
    """Return where the image stands on the axes that were dropped by selecting."""
    array = levels(obj)[0]
    return {
        axis.name: float(_numeric(array, axis))
        for axis in system.axes
        if axis.name in array.coords and array.coords[axis.name].ndim == 0
    }


def _stacked(
    points: Mapping[str, Any], system: CoordinateSystem, fixed: Mapping[str, float]
) -> Floats:
    names = [axis.name for axis in system.axes]
    unknown = [name for name in points if name not in names]
    missing = [name for name in names if name not in points and name not in fixed]
    if unknown or missing:
        found = ", ".join(map(str, points)) or "none"
        raise TransformationError(
            f"points of {system.name!r} have the axes {', '.join(names)}; found {found}"
        )
    values = [_magnitudes({**fixed, **points}[axis.name], axis.unit) for axis in system.axes]
    return np.stack(np.broadcast_arrays(*values), axis=-1)


def _magnitudes(values: Any, unit: str | None) -> Floats:
    """Return numbers, quantities or texts as numbers of a unit."""
    values = _bare(values)
    if hasattr(values, "magnitude") and hasattr(values, "units"):
        return np.asarray(values.magnitude, dtype=np.float64) * _factor(values, unit)
    found = np.asarray(values)
    if found.dtype.kind in "fiu":
        return found.astype(np.float64)
    each = [units.magnitude(value, unit) for value in found.ravel().tolist()]
    return np.array(each, dtype=np.float64).reshape(found.shape)
