"""Where an object is stored, for others who read the store themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import xarray as xr

from ngff_xarray import groups, image, lazy, store
from ngff_xarray.errors import UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.storage import Access
from ngff_xarray.store import Group, Source


def source_of(
    obj: Any, *, storage_options: Mapping[str, Any] | None = None, trust: bool = False
) -> Source:
    """Return the place of an opened tree, or that of a path, a URL or a store.

    Raises
    ------
    StoreError
        If it is not known, or there is no such place.
    UnsupportedError
        If an image was changed since it was opened.
    """
    if isinstance(obj, xr.DataTree | xr.Dataset | xr.DataArray):
        return place(obj)[0]
    access = Access(storage_options or {}, trust=trust)
    if isinstance(obj, str | os.PathLike):
        return store.open_group(os.fspath(obj), access=access)[0]
    return store.open_source(obj, access=access)


def place(obj: Obj) -> tuple[Source, Group]:
    """Return where an object is stored as it is, and what the metadata there said.

    Raises
    ------
    StoreError
        If it was not opened from a store.
    UnsupportedError
        If an image was cropped or computed since: the store holds other pixels.
    """
    found = groups.place(obj)
    if image.group_kind(obj) is None:
        for path, array in zip(image.level_paths(obj), image.levels(obj), strict=True):
            _check_unchanged(*found, path, array)
    return found


def _check_unchanged(source: Source, group: Group, path: str, array: xr.DataArray) -> None:
    variable = array.variable
    whole = lazy.stored_whole(variable)
    if whole is not None:
        return
    taken = lazy.stored(variable) is not None
    if not taken and "chunks" in variable.encoding:  # of dask, perhaps all of it
        document = store.run(store.fetch_array(source, group, path)) or {}
        taken = tuple(document.get("shape", ())) != variable.shape
        if not taken:
            return
    found = "a part of what was opened" if taken else "computed, and stored nowhere"
    raise UnsupportedError(
        f"level {path!r} is {found}, so nobody can read it from the store: write it first: "
        "tree.ngff.to_zarr(path), and open that"
    )
