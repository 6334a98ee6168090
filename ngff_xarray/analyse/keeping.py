"""Tables of objects kept: as the properties of their label image, or as a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from ngff_xarray import image
from ngff_xarray.analyse.tables import ENDINGS, check_format, check_new, write
from ngff_xarray.errors import SelectionError, StoreError
from ngff_xarray.image import Obj
from ngff_xarray.labelling import set_properties
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url

if TYPE_CHECKING:
    import pandas as pd

Keep = Callable[["pd.DataFrame"], None]


def target(to: Any, tree: Obj, name: str | None, *, by_frame: bool) -> Keep:
    """Return what keeps a table, after a look at whether it can.

    Parameters
    ----------
    to
        ``"properties"``, the path or URL of a new file, or None for nothing.
    tree, name
        The image, and the name of the label image.
    by_frame
        Whether a label may stand for several objects.

    Raises
    ------
    SelectionError
        If such a table cannot be kept so.
    StoreError
        If the file is there already.
    MissingDependencyError
        If the format needs a package that is not installed.
    """
    if to is None:
        return lambda frame: None
    if to == "properties":
        if name is None or not isinstance(tree, xr.DataTree):
            raise SelectionError(
                "to='properties': expected the name of a label image in the store of the image; "
                "write a table instead, as with to='nuclei.csv'"
            )
        if by_frame:
            raise SelectionError(
                "to='properties': labels have one row of properties, and these are measured in "
                "several frames: write a table instead, as with to='nuclei.csv'"
            )
        known = tree
        return lambda frame: _put_properties(known, name, frame)
    return _file(to)


def _put_properties(tree: xr.DataTree, name: str, frame: pd.DataFrame) -> None:
    """Write a table as the properties of a label image; the tree that is open has them, too."""
    stored = set_properties(tree, name, frame, keep=True)
    said = image.label_images(stored)[name].attrs["ome"]["image-label"]
    node = tree[f"labels/{name}"]
    node.attrs["ome"] = {**node.attrs["ome"], "image-label": said}


def _file(to: Any) -> Keep:
    """Return what writes a table into a new file."""
    if not isinstance(to, str | os.PathLike):
        raise SelectionError(f"to: expected 'properties' or a path, found {type(to).__name__}")
    target = os.fspath(to)
    if not target.lower().endswith(ENDINGS):
        raise SelectionError(
            f"to: expected 'properties' or a path that ends in {' or '.join(ENDINGS)}; found "
            f"{printable(target, 200)!r}"
        )
    check_format(target)
    if is_url(target):
        check_new(target, None, replace=False)
        return lambda frame: write(frame, target, None, index=True)
    path = Path(target)
    shown = printable(path, 200)
    if path.exists():
        raise StoreError(f"{shown}: there is such a file: give another name, or delete it")
    if not path.parent.is_dir():
        raise StoreError(f"{shown}: there is no such directory: make it first")

    return lambda frame: write(frame, target, None, index=True)
