"""What pixels are, in few words: the same for the same pixels, in another process too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ngff_xarray.lazy import stored


def identity(source: xr.Variable) -> Any:
    """Return what is the same for the same pixels; None if nothing is known of them.

    Pixels in memory are what they are; those of a store are told by where they are, how they are
    stored and, on a disk, since when.
    """
    array = stored(source)
    if array is not None:
        return str(array.store_path), repr(array.metadata), source.dims, _when(array)
    if source.chunks is not None:
        return source.data.name
    return source._data if isinstance(source._data, np.ndarray) else None


def _when(array: zarr.Array[Any]) -> int:
    """Return when an array on a disk was made, in nanoseconds; 0 elsewhere."""
    root = getattr(array.store_path.store, "root", None)
    if not isinstance(root, Path):
        return 0
    name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    try:
        return (root / array.path / name).stat().st_mtime_ns
    except OSError:
        return 0
