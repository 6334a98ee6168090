"""What this package opens in place: OME-Zarr, SpatialData, Imaris files, references."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from ngff_xarray import groups, image, store
from ngff_xarray import read as reading
from ngff_xarray.converting import webknossos
from ngff_xarray.converting.found import Found, Original
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.spec import spatialdata
from ngff_xarray.storage import Access
from ngff_xarray.text import printable
from ngff_xarray.virtual.kinds import kind_of

NAME = "OME-Zarr, SpatialData, Imaris, kerchunk references"
EXTRA = "imaris"
USES = frozenset({"path", "series"})

_MOST = 2**20  # letters of metadata
_FORMATS = {"imaris": "Imaris", None: "OME-Zarr"}


def claims(source: Input) -> bool:
    """Tell whether this may be a store, or a file that is opened as one."""
    if not source.text:
        module = type(source.given).__module__.partition(".")[0]
        return module in ("zarr", "obstore") or isinstance(source.given, dict)
    if kind_of(source.text) is not None:
        return True
    return is_zarr(source) or source.ends(".ozx", ".zarr.zip")


def is_zarr(source: Input) -> bool:
    """Tell whether a folder or URL is that of a zarr store."""
    if source.is_url:
        return source.ends(".zarr", ".zarr/") or webknossos.is_layer(source)
    names = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
    return source.is_folder and any((source.path / name).is_file() for name in names)


def read(source: Input, options: Options) -> Found:
    """Return the images of a store."""
    given = source.text or source.given
    is_wanted = options.series is not None
    group = str(options.series) if is_wanted else options.path
    access = Access(options.storage_options or {})
    place = store.open_source(given, access=access)
    found = store.look(place)
    if found is None and not group:
        raise DeclinedError("is no group of zarr with attributes")
    if found is not None and spatialdata.is_store(found.attributes) and (is_wanted or not group):
        return _spatialdata(given, options, access)
    try:
        tree = reading.open_tree(given, group=group, access=access)
    except NotOmeError as error:
        raise DeclinedError(str(error)) from error
    kind = kind_of(given) if source.text else None
    if kind is not None and image.group_kind(tree) is None:  # a version that nobody chose
        _forget_version(tree)
    original = _imaris(source) if kind == "imaris" else None
    return Found(_FORMATS.get(kind, "references"), {"": lambda: tree}, original=original)


def _spatialdata(given: Any, options: Options, access: Access) -> Found:
    """Return the images and labels of a SpatialData store, or one of them by its name or path."""
    tree = reading.open_tree(given, access=access)
    _forget_version(tree)
    wanted = options.series
    if wanted is not None and wanted != "all":
        known = groups.images(tree)
        found = [
            each
            for i, (path, each) in enumerate(known.items())
            if wanted in (i, path, path.rpartition("/")[2])
        ]
        if not found:
            listed = ", ".join(printable(path, 80) for path in list(known)[:20]) or "none"
            raise SelectionError(f"there is no image {printable(wanted, 80)!r}; there are {listed}")
        tree = found[0]
    return Found("SpatialData", {"": lambda: tree})


def _forget_version(tree: xr.DataTree) -> None:
    for node in tree.subtree:
        node.encoding = {k: v for k, v in node.encoding.items() if k != "ome_version"}
    if image.group_kind(tree) is None:
        for array in image.levels(tree):
            array.encoding.pop("ome_version", None)


def _imaris(source: Input) -> Original | None:
    """Return what a file of Imaris says of itself, as far as h5py reads it here."""
    if not source.is_file:
        return None
    import h5py

    said: dict[str, dict[str, str]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group):
            said[name] = {key: _text(value) for key, value in node.attrs.items()}

    with h5py.File(source.path, "r", locking=False) as file:
        info = file.get("DataSetInfo")
        if info is not None:
            info.visititems(note)
    text = json.dumps(said)
    return Original("Imaris DataSetInfo (as JSON)", text) if len(text) < _MOST else None


def _text(value: Any) -> str:
    """Return the text of an attribute, which is an array of letters."""
    try:
        return b"".join(value).decode(errors="replace")
    except TypeError:
        return str(value)
