"""The accessor of an object, chosen by what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import xarray as xr

from ngff_xarray import image
from ngff_xarray.accessor.base import Accessor
from ngff_xarray.accessor.groups import CollectionAccessor, SceneAccessor, WellAccessor
from ngff_xarray.accessor.images import ImageAccessor
from ngff_xarray.accessor.plates import PlateAccessor
from ngff_xarray.accessor.trees import LabelsAccessor, TreeAccessor
from ngff_xarray.errors import NotOmeError


class NotOmeAccessor:
    """Stands where there is no image, and says so when it is asked for anything.

    xarray keeps the accessor of an object, which may become an image later: so it looks again.
    """

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __getattr__(self, name: str) -> Any:
        found = ngff(self._obj)
        if not isinstance(found, NotOmeAccessor):
            return getattr(found, name)
        if name.startswith("_"):  # Python and IPython ask what an object can do
            raise AttributeError(name)
        raise NotOmeError(f".ngff.{name}: {_reason(self._obj)}")

    def __repr__(self) -> str:
        found = ngff(self._obj)
        if not isinstance(found, NotOmeAccessor):
            return repr(found)
        return f"no OME-Zarr image: {_reason(self._obj)}"


def _reason(obj: Any) -> str:
    """Return why an object is no image."""
    try:
        image.kind(obj)
    except NotOmeError as error:
        return str(error)
    return ""


_TREES: Mapping[str, type[Accessor[xr.DataTree]]] = {
    "image": TreeAccessor,
    "labels": LabelsAccessor,
    "plate": PlateAccessor,
    "well": WellAccessor,
    "collection": CollectionAccessor,
    "scene": SceneAccessor,
}


@overload
def ngff(obj: xr.DataArray) -> ImageAccessor[xr.DataArray]: ...
@overload
def ngff(obj: xr.Dataset) -> ImageAccessor[xr.Dataset]: ...
@overload
def ngff(obj: xr.DataTree) -> TreeAccessor: ...
def ngff(obj: Any) -> Any:
    """Return the accessor of an xarray object: ``obj.ngff``, known to type checkers.

    Parameters
    ----------
    obj
        A DataTree, Dataset or DataArray.

    Examples
    --------
    >>> import numpy as np
    >>> x = xr.Variable("x", [0.0, 0.5], {"units": "micrometer"})
    >>> array = xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"x": x})
    >>> ngff(array).units
    {'y': None, 'x': 'micrometer'}
    """
    if not isinstance(obj, xr.DataArray | xr.Dataset | xr.DataTree):
        raise TypeError(
            f"expected a DataTree, Dataset or DataArray, found {type(obj).__name__}: a path is "
            "opened with xr.open_datatree(path), an array becomes one with xr.DataArray(array, "
            "dims=…)"
        )
    try:
        kind = image.kind(obj)
    except NotOmeError:
        return NotOmeAccessor(obj)
    return _TREES[kind](obj) if isinstance(obj, xr.DataTree) else ImageAccessor(obj)


def register() -> None:
    """Put ``.ngff`` on DataTree, Dataset and DataArray (xarray leaves these calls untyped)."""
    xr.register_datatree_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
    xr.register_dataset_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
    xr.register_dataarray_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
