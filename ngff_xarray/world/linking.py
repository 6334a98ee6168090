"""An image with one more coordinate system, and what leads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ngff_xarray import image, units
from ngff_xarray.errors import NotOmeError, TransformationError
from ngff_xarray.model import CoordinateSystem
from ngff_xarray.ops import rebuilt
from ngff_xarray.text import printable
from ngff_xarray.transforms import Affine
from ngff_xarray.transforms.linear import rows
from ngff_xarray.world.connections import _own_systems, current_system, graph
from ngff_xarray.world.placing import _json
from ngff_xarray.world.positions import Floats, _names
from ngff_xarray.world.restoring import ObjT, _with_levels, _with_ome


def with_system(
    obj: ObjT,
    name: str,
    transformation: ArrayLike | Mapping[str, Any] | None = None,
    *,
    axes: str | Sequence[str] | None = None,
) -> ObjT:
    """Return an image that knows where it lies in another coordinate system; no pixel is moved.

    The system has the axes of the image's own. `to_system`, `transform`, `resample` and
    ``plot(over=…, system=…)`` lead there, and ``to_zarr(…, version="0.6")`` writes it.

    Parameters
    ----------
    obj
        An image as a tree, a Dataset or an array.
    name
        What the system is to be called.
    transformation
        What leads there from the image's coordinates, in the units of its axes. A matrix of n
        axes: ``(n, n + 1)`` with the offsets last, ``(n + 1, n + 1)`` with a row ``0 … 0 1``
        below that, as ``.params`` of scikit-image's transformations, or ``(n, n)`` without
        offsets. Or a shift by axis, ``{"y": "3 µm", "x": -2.5}``. None: both are the same.
    axes
        The axes of the matrix, in its order: ``("x", "y")`` of scikit-image's, or ``"xy"``. By
        default those of space, in the order of the image. Others stay as they are.

    Raises
    ------
    TransformationError
        If there is such a system already, or the matrix does not fit or has no inverse.
    UnitError
        If a shift is no length.
    NotOmeError
        If it is no image.

    Examples
    --------
    >>> image = xr.DataArray([[0, 0, 0]], dims=("y", "x"))
    >>> turned = with_system(image, "atlas", [[0, -1, 5], [1, 0, 0]])
    >>> turned.ngff.transform([[0, 2]], to="atlas")
    array([[3., 0.]])
    >>> with_system(image, "stage", {"x": 20}).ngff.to_system("stage")["x"].values
    array([20., 21., 22.])
    """
    said = image.ome(obj)
    kind = image.group_kind(obj)
    if kind is not None:
        raise NotOmeError(f"this is a {kind}: give one of its images a coordinate system")
    if "placed" in said:
        raise TransformationError(
            f"the image is placed in {said['placed']['system']!r}, where its axes mix: take it "
            f"back first, to_system({said['placed'].get('intrinsic', 'intrinsic')!r})"
        )
    _check_name(name, graph(obj).systems)
    own = _own_systems(obj)[current_system(obj)]
    link = {
        **_said(transformation, axes, own),
        "input": {"name": own.name},
        "output": {"name": name},
    }
    known = said.get("coordinateSystems") or [_json(own)]
    ome = {
        **said,
        "intrinsic": own.name,
        "coordinateSystems": [*known, _json(CoordinateSystem(name, own.axes))],
        "coordinateTransformations": [*said.get("coordinateTransformations", ()), link],
    }
    change: Any = partial(_with_ome, ome=ome, renamed={})
    if not isinstance(obj, xr.DataTree):
        return cast("ObjT", change(obj))
    return cast("ObjT", rebuilt(obj, _with_levels(obj, ome, change)))


def _check_name(name: str, taken: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not name:
        raise TransformationError(f"expected the name of a coordinate system, found {name!r}")
    if name in taken:
        raise TransformationError(
            f"there is {printable(repr(name))} already: give another name, or start from the image "
            f"without it (there are {', '.join(map(repr, taken))})"
        )


def _said(
    transformation: ArrayLike | Mapping[str, Any] | None,
    axes: str | Sequence[str] | None,
    own: CoordinateSystem,
) -> dict[str, Any]:
    """Return a transformation as version 0.6 writes it."""
    if transformation is None:
        return {"type": "identity"}
    if isinstance(transformation, Mapping):
        return {"type": "translation", "translation": _shift(transformation, own)}
    names = [a.name for a in own.axes if a.type == "space"] if axes is None else list(axes)
    places = _places(names, own)
    matrix = _matrix(transformation, names)
    whole = np.eye(len(own.axes), len(own.axes) + 1)
    whole[np.ix_(places, [*places, -1])] = matrix
    Affine(rows(whole)).inverse()  # raises where nothing leads back
    return {"type": "affine", "affine": whole.tolist()}


def _shift(shift: Mapping[str, Any], own: CoordinateSystem) -> list[float]:
    _places(list(shift), own)
    return [units.magnitude(shift.get(axis.name, 0.0), axis.unit) for axis in own.axes]


def _places(names: Sequence[str], own: CoordinateSystem) -> list[int]:
    """Return where axes stand among those of a system."""
    known = [axis.name for axis in own.axes]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        found = printable(", ".join(map(str, names)))
        raise TransformationError(f"expected axes of {own.name!r} ({_names(own)}), found {found}")
    return [known.index(name) for name in names]


def _matrix(values: ArrayLike, names: Sequence[str]) -> Floats:
    """Return the matrix of some axes with the offsets in its last column."""
    count = len(names)
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TransformationError(f"expected a matrix of numbers: {error}") from error
    if found.shape == (count, count):
        found = np.column_stack([found, np.zeros(count)])
    elif found.shape == (count + 1, count + 1):
        if not np.allclose(found[-1], np.eye(count + 1)[-1]):
            raise TransformationError(
                f"expected the last row of the matrix to be {np.eye(count + 1)[-1].tolist()}, "
                f"found {found[-1].tolist()}: a projection is no affine"
            )
        found = found[:-1]
    if found.shape != (count, count + 1):
        raise TransformationError(
            f"expected a matrix of the axes {', '.join(names)}: of shape {(count, count + 1)}, "
            f"{(count + 1, count + 1)} or {(count, count)}, found {found.shape}"
        )
    if not np.isfinite(found).all():
        raise TransformationError("expected finite numbers in the matrix")
    return found
