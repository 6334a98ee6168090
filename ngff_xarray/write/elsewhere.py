"""An image -> levels at paths of a store, and the attributes that describe them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from ngff_xarray import image, store
from ngff_xarray.describe import described
from ngff_xarray.layout import Layout
from ngff_xarray.model import Image
from ngff_xarray.store import join
from ngff_xarray.write.levels import storage, write_levels
from ngff_xarray.write.writing import Writing, check_json, moved, said_so


def attributes_at(
    tree: xr.DataTree, paths: Sequence[str], version: str, layout: Layout
) -> dict[str, Any]:
    """Return the attributes that describe an image whose levels stand at other paths.

    That these and the levels can be written so is checked.
    """
    writing = Writing(version, lossy=False, layout=layout)
    layout.check(writing.zarr_format)
    for array in image.levels(tree):
        storage(array, (), writing)
    content = described(tree)
    assert isinstance(content, Image)
    attributes = writing.attributes(moved(content, paths))
    check_json(attributes)
    return attributes


def write_levels_at(
    place: store.Source,
    tree: xr.DataTree,
    paths: Sequence[str],
    version: str,
    layout: Layout,
    *,
    progress: bool | None = None,
) -> None:
    """Write the pixels of an image, each level at a path below a place, and no metadata of OME's.

    Parameters
    ----------
    place
        The place, for writing.
    tree
        The image.
    paths
        Where each level goes.
    version
        That of the store.
    layout
        How they are stored.
    progress
        Whether to show how far it is.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    writing = Writing(version, lossy=False, progress=progress, layout=layout)
    names = [axis.extra.get("name", axis.name) for axis in image.axes(tree)]
    whole = [join(place.path, path) for path in paths]
    with said_so(place):
        write_levels(place.store, whole, image.levels(tree), names, writing, None)
