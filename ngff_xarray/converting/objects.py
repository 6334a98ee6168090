"""Objects of xarray, and arrays of numpy and dask, as they are in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import image
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.errors import Issue, SelectionError
from ngff_xarray.multiscale import multiscale

NAME = "xarray, numpy and dask"
EXTRA = ""
USES = frozenset({"axes"})


def claims(source: Input) -> bool:
    """Tell whether this is an object that is at hand."""
    return isinstance(source.given, image.Obj | np.ndarray) or _is_dask(source.given)


def _is_dask(given: Any) -> bool:
    return type(given).__module__.startswith("dask.array")


def read(source: Input, options: Options) -> Found:
    """Return the image that an object is."""
    given = source.given
    if isinstance(given, xr.DataTree):
        return Found("xarray", {"": lambda: given})
    if isinstance(given, xr.DataArray | xr.Dataset):
        return Found("xarray", {"": lambda: _tree(given, options)})
    if not hasattr(given, "ndim"):
        raise DeclinedError(f"is a {type(given).__name__}")
    axes, issues = axes_.named(given.shape, options, None, "the array")
    order = axes_.order(axes)
    scan = Scan([axes[i] for i in order], [given.transpose(order)], issues=issues)
    return Found(type(given).__module__.partition(".")[0], {"": lambda: scan})


def _tree(obj: xr.DataArray | xr.Dataset, options: Options) -> xr.DataTree:
    """Return the tree of an image that has one level, with pixel sizes that the caller gives."""
    array = image.levels(obj)[0]
    if options.axes is not None:
        if len(options.axes) != array.ndim:
            raise SelectionError(f"axes={options.axes!r}: the array has {array.dims}")
        array = array.rename(dict(zip(array.dims, options.axes, strict=True)))
    tree = multiscale(array, levels=1)
    unknown = [
        axis.name
        for axis in image.axes(array)
        if axis.type == "space" and axis.name not in array.coords
    ]
    issues = []
    if unknown:
        message = f"there are no coordinates along {', '.join(unknown)}: positions are in pixels"
        issues.append(Issue("pixel size", message, mend="assign coordinates with attrs['units']"))
    others = [] if isinstance(obj, xr.DataArray) else _others(obj, array)
    tree.encoding = {**tree.encoding, "issues": tuple(issues), "dropped": tuple(others)}
    return tree


def _others(obj: xr.Dataset, array: xr.DataArray) -> list[str]:
    return [f"the variable {name}" for name in obj.data_vars if name != array.name]
