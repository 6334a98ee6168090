"""Images whose store does not say how large pixels are, or says it wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import xarray as xr

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.model import axis_type
from ngff_xarray.ops import ObjT
from ngff_xarray.text import printable

Size = tuple[float, str | None]
"""How large a pixel is, and the specification's name of the unit, if it has one."""


def size_of(axis: str, value: Any) -> Size:
    """Return the pixel size that a caller gives for an axis.

    Parameters
    ----------
    axis
        Its name.
    value
        Text or a quantity; a number is without unit.

    Raises
    ------
    SelectionError
        If it is not more than 0.
    UnitError
        If it is no length, or no duration of an axis of time.

    Examples
    --------
    >>> size_of("x", "500 nm"), size_of("t", "2 min"), size_of("x", 3)
    ((0.5, 'micrometer'), (120.0, 'second'), (3.0, None))
    """
    unit = "second" if axis_type(axis) == "time" else "micrometer"
    is_plain = isinstance(value, int | float | np.number)
    size = units.magnitude(value, None if is_plain else unit)
    if not (np.isfinite(size) and size > 0):
        raise SelectionError(f"pixel_size: {axis}: expected more than 0, found {value!r}")
    return float(size), None if is_plain else unit


def with_pixel_size(obj: ObjT, sizes: Mapping[str, Any]) -> ObjT:
    """Return an image whose pixels are as large as they are said to be; none is read or changed.

    The coordinates of all levels, and those of its label images, grow or shrink together.

    Parameters
    ----------
    obj
        An image. Its store stays as it is: write the result with ``to_zarr``.
    sizes
        By axis, of the finest level: ``{"y": "0.5 µm", "x": "0.5 µm", "t": "30 s"}``; a number is
        without unit.

    Raises
    ------
    SelectionError
        If there is no such axis, its pixels are not evenly spaced, or a size is not more than 0.
    UnitError
        If a size is no length, or no duration of an axis of time.
    UnsupportedError
        If other coordinate systems hang on the image's own.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> retina = xr.open_datatree(sample("retina"))
    >>> sized = with_pixel_size(retina, {"y": "8 µm", "x": "8 µm"})
    >>> print(sized.ngff.pixel_size["x"], sized["1"].ngff.pixel_size["x"])
    8.0 micrometer 16.0 micrometer
    """
    said = image.ome(obj)
    if sizes and (said.get("coordinateTransformations") or said.get("scene")):
        raise UnsupportedError(
            "pixel_size: the image has coordinate systems besides its own, which would not be "
            "right any more"
        )
    known = image.pixel_sizes(obj)
    factors = {dim: _factor(obj, dim, size_of(dim, value), known) for dim, value in sizes.items()}
    if not isinstance(obj, xr.DataTree):
        return cast("ObjT", _sized(obj, factors))
    made = obj.map_over_datasets(lambda each: _sized(each, factors))
    for new, old in zip(made.subtree, obj.subtree, strict=True):
        new.encoding = _without_issues(old, sizes)
    return cast("ObjT", made)


_Factor = tuple[float, Size]


def _factor(obj: Any, dim: str, size: Size, known: Mapping[str, float]) -> _Factor:
    names = [axis.name for axis in image.axes(obj) if axis.type != "channel"]
    if dim not in names:
        raise SelectionError(
            f"pixel_size: there is no axis {printable(dim, 40)!r}; there are {', '.join(names)}"
        )
    coordinate = image.levels(obj)[0][dim]
    found = known.get(dim, 1.0 if coordinate.size == 1 or dim not in coordinate.coords else None)
    if found is None:
        raise SelectionError(
            f"pixel_size: pixels along {dim} are not evenly spaced: take an array of it, and drop "
            f"their coordinate, with .drop_vars({dim!r})"
        )
    return size[0] / found, size


def _sized(obj: Any, factors: Mapping[str, _Factor]) -> Any:
    coords = {
        dim: _grown(obj[dim], factor, unit)
        for dim, (factor, (_, unit)) in factors.items()
        if dim in obj.dims
    }
    return obj.assign_coords(coords) if coords else obj


def _grown(coordinate: xr.DataArray, factor: float, unit: str | None) -> xr.Variable:
    """Return a coordinate with other steps; positions that are whole steps stay that exactly."""
    attrs = {k: v for k, v in coordinate.attrs.items() if k not in ("units", "pixel_size")}
    step = geometry.pixel_size(coordinate)
    values = geometry.numbers(coordinate) * factor
    if step is not None:
        attrs["pixel_size"] = float(f"{step * factor:.15g}")
    if unit is not None:
        attrs["units"] = unit
    return xr.Variable(str(coordinate.name), values, attrs)


def _without_issues(node: xr.DataTree, sizes: Mapping[str, Any]) -> dict[Any, Any]:
    """Return what is known of a node, without what was odd about units that are told now."""
    issues = node.encoding.get("issues")
    if not issues:
        return dict(node.encoding)
    said = image.axes(node) if image.group_kind(node) is None and sizes else ()
    told = {f"axes[{i}].unit" for i, axis in enumerate(said) if axis.name in sizes}
    left = tuple(i for i in issues if not any(i.path.endswith(path) for path in told))
    return {**node.encoding, "issues": left}
