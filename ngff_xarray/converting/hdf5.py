"""HDF5: a dataset of a file, by its path; axes and pixel sizes as ilastik and Fiji note them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ngff_xarray import units
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.stored_array import StoredArray
from ngff_xarray.errors import MissingDependencyError, NgffError, SelectionError, StoreError
from ngff_xarray.text import printable

NAME = "HDF5"
EXTRA = "hdf5"
USES = frozenset({"path", "axes"})

_MAGIC = b"\x89HDF\r\n\x1a\n"
_CACHE = 2**26  # bytes of unpacked chunks
_LISTED = 200  # datasets


def claims(source: Input) -> bool:
    """Tell whether this is a file of HDF5."""
    return source.head.startswith(_MAGIC)


def open_dataset(path: str, dataset: str, _: Any) -> Any:
    """Return a dataset of a file."""
    import h5py

    file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE, rdcc_nslots=10_007)
    return file[dataset]


def read(source: Input, options: Options) -> Found:
    """Return the image that a dataset is."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("h5py", "hdf5", f"reading {source.name}") from error
    try:
        with h5py.File(source.path, "r", locking=False) as file:
            path = _path(file, source, options)
            dataset = file[path]
            shape, dtype, said = dataset.shape, dataset.dtype, _attributes(dataset)
            labels = [dim.label for dim in dataset.dims]
    except NgffError:
        raise
    except Exception as error:  # whatever h5py raises
        raise StoreError(f"{source.name}: cannot be read: {printable(error, 300)}") from error
    if dtype.kind not in "biufc":
        raise DeclinedError(f"{path} holds {dtype}, no numbers")
    axes, issues = axes_.named(shape, options, _known(said, labels, len(shape)), source.name)
    order = axes_.order(axes)
    pixels = StoredArray(open_dataset, (source.text, path, source.stamp), order, source.name)
    sizes = _sizes(said, axes)
    text = json.dumps(said, default=str)
    scan = Scan([axes[i] for i in order], [pixels], source.stem, sizes, issues=issues)
    original = Original("attributes of HDF5 (as JSON)", text) if said else None
    return Found("HDF5", {"": lambda: scan}, original=original)


def _path(file: Any, source: Input, options: Options) -> str:
    """Return the path of the dataset that is wanted, or of the only one that is an image."""
    import h5py

    if options.path is not None:
        found = file.get(options.path)
        if isinstance(found, h5py.Dataset):
            return options.path
    known: list[str] = []

    def note(name: str, node: Any) -> bool | None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 2:
            known.append(name)
        return True if len(known) >= _LISTED else None

    file.visititems(note)
    if options.path is None and len(known) == 1:
        return known[0]
    listed = ", ".join(printable(name, 80) for name in known[:20]) or "none"
    wrong = "" if options.path is None else f"there is no dataset {printable(options.path, 80)!r}; "
    raise SelectionError(f"{source.name}: {wrong}give the path= of one of its datasets: {listed}")


def _attributes(dataset: Any) -> dict[str, Any]:
    said = {}
    for key, value in dataset.attrs.items():
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        said[str(key)] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return said


def _known(said: dict[str, Any], labels: list[str], ndim: int) -> list[str] | None:
    """Return the names of the axes: of ilastik's tags, or the labels of the dimensions."""
    try:
        keys = [str(tag["key"]) for tag in json.loads(said["axistags"])["axes"]]
    except (KeyError, TypeError, ValueError):
        keys = list(labels)
    is_whole = len(keys) == ndim and all(keys) and len(set(keys)) == ndim
    return [key.lower() for key in keys] if is_whole else None


def _sizes(said: dict[str, Any], axes: list[str]) -> dict[str, Size]:
    """Return the pixel sizes: ``element_size_um`` of Fiji (z, y, x), or the tags of ilastik."""
    space = [axis for axis in "zyx" if axis in axes]
    listed = said.get("element_size_um")
    if isinstance(listed, list) and len(listed) in (len(space), 3):
        both = zip("zyx"[-len(listed) :], listed, strict=True)
        return {a: (float(n), "micrometer") for a, n in both if a in space and n > 0}
    try:
        tags = json.loads(said["axistags"])["axes"]
        return {
            str(tag["key"]): (float(tag["resolution"]), units.unit_name(str(tag.get("unit", ""))))
            for tag in tags
            if tag.get("resolution") and tag["key"] != "c"
        }
    except (KeyError, TypeError, ValueError):
        return {}
