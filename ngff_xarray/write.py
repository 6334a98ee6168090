"""An image in memory -> a store. Arrays first, metadata last: they are the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from ngff_xarray import spec
from ngff_xarray.errors import StoreError
from ngff_xarray.model import Image


def write_image(
    path: Path,
    image: Image,
    arrays: Sequence[NDArray[Any]],
    *,
    version: str = "0.5",
    labels: Mapping[str, tuple[Image, Sequence[NDArray[Any]]]] | None = None,
    chunk: int = 256,
) -> None:
    """Write an image and its label images to a directory that does not exist yet.

    Parameters
    ----------
    path
        The directory.
    image
        What the metadata say.
    arrays
        The pixels of every level, in the order of ``image.multiscale.levels``.
    version
        The version of the specification to follow; it decides the zarr format.
    labels
        Name -> label image and the integers of its levels.
    chunk
        The longest side of a chunk, along y and x.

    Raises
    ------
    StoreError
        If the directory exists.
    """
    if path.exists():
        raise StoreError(f"{path} exists already: give another path, or remove it first")
    store = LocalStore(path)
    for name, (label, levels) in (labels or {}).items():
        _write_group(store, f"labels/{name}", label, levels, version, chunk)
    if labels:
        attributes = spec.VERSIONS[version].write_labels(list(labels))
        _commit(store, "labels", attributes, version)
    _write_group(store, "", image, arrays, version, chunk)


def _write_group(
    store: LocalStore,
    path: str,
    image: Image,
    arrays: Sequence[NDArray[Any]],
    version: str,
    chunk: int,
) -> None:
    names = [axis.name for axis in image.multiscale.axes]
    for level, array in zip(image.multiscale.levels, arrays, strict=True):
        place = f"{path}/{level.path}".strip("/")
        _write_array(store, place, array, names, spec.VERSIONS[version].ZARR_FORMAT, chunk)
    _commit(store, path, spec.VERSIONS[version].write(image), version)


def _write_array(
    store: LocalStore,
    path: str,
    array: NDArray[Any],
    names: Sequence[str],
    zarr_format: int,
    chunk: int,
) -> None:
    chunks = tuple(
        max(1, min(size, chunk)) if i >= array.ndim - 2 else 1 for i, size in enumerate(array.shape)
    )
    target = zarr.create_array(
        store,
        name=path,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks,
        fill_value=np.zeros((), array.dtype).item(),
        **_STORAGE[zarr_format](names),
    )
    target[...] = array


def _storage_v2(names: Sequence[str]) -> dict[str, Any]:
    separator = {"name": "v2", "separator": "/"}
    return {"zarr_format": 2, "chunk_key_encoding": separator}


def _storage_v3(names: Sequence[str]) -> dict[str, Any]:
    # the checksum comes last: it is what tells a flipped bit from a pixel
    compressors = [BloscCodec(cname="zstd", clevel=5), Crc32cCodec()]
    return {"zarr_format": 3, "dimension_names": names, "compressors": compressors}


_STORAGE = {2: _storage_v2, 3: _storage_v3}


def _commit(store: LocalStore, path: str, attributes: dict[str, Any], version: str) -> None:
    """Write the metadata in one piece; the group itself may be there, empty, from its arrays."""
    zarr_format = spec.VERSIONS[version].ZARR_FORMAT
    group = zarr.open_group(store, path=path, mode="a", zarr_format=zarr_format)
    group.update_attributes(attributes)
