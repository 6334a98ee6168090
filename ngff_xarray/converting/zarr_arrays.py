"""Zarr arrays that are no OME-Zarr: alone, or by their path in a group."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr
import zarr

from ngff_xarray import store
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.stores import is_zarr
from ngff_xarray.errors import SelectionError
from ngff_xarray.lazy import encoding, lazy
from ngff_xarray.storage import Access
from ngff_xarray.text import printable

NAME = "zarr arrays"
EXTRA = ""
USES = frozenset({"path", "axes"})


def claims(source: Input) -> bool:
    """Tell whether this may be an array of zarr, or a group of them."""
    if source.text:
        return is_zarr(source)
    return type(source.given).__module__.partition(".")[0] == "zarr"


def read(source: Input, options: Options) -> Found:
    """Return the image that an array is."""
    array = _array(source, options)
    said: dict[str, Any] = dict(array.attrs)
    names: Any = getattr(array.metadata, "dimension_names", None)
    names = names or said.pop("_ARRAY_DIMENSIONS", None)
    known = None if names is None or None in names else [str(name) for name in names]
    axes, issues = axes_.named(array.shape, options, known, source.name)
    order = axes_.order(axes)
    if array.dtype.kind not in "biufc":
        raise DeclinedError(f"holds {array.dtype}, no numbers")
    if order != list(range(array.ndim)):
        raise SelectionError(
            f"{source.name}: its axes are {', '.join(axes)}, expected t, c, z, y, x in this order: "
            "open it with xarray, transpose it, and convert that"
        )
    variable = xr.Variable(tuple(axes), lazy(array), encoding=encoding(array, tuple(axes)))
    original = Original("attributes of zarr (as JSON)", json.dumps(said)) if said else None
    scan = Scan(axes, [variable], name=source.stem if source.text else None, issues=issues)
    return Found("zarr", {"": lambda: scan}, original=original)


def _array(source: Input, options: Options) -> zarr.Array[Any]:
    if isinstance(source.given, zarr.Array):
        return source.given
    access = Access(options.storage_options or {})
    place = store.open_source(source.text or source.given, access=access)
    path = "/".join(filter(None, (place.path, options.path)))
    try:
        node = zarr.open(place.store, path=path, mode="r")
    except (FileNotFoundError, KeyError, ValueError) as error:
        text = f"there is no array or group of zarr: {printable(error, 200)}"
        raise DeclinedError(text) from error
    if isinstance(node, zarr.Array):
        return node
    arrays = [name for name, each in node.arrays() if each.ndim >= 2]
    if len(arrays) == 1:
        found = node[arrays[0]]
        assert isinstance(found, zarr.Array)
        return found
    known = ", ".join(printable(name, 40) for name in arrays[:20]) or "none"
    raise SelectionError(f"{source.name}: give the path= of one of its arrays: {known}")
