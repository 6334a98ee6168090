"""Arrays of numpy in files (``.npy``), mapped into memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.stored_array import StoredArray, opened

NAME = "numpy (.npy)"
EXTRA = ""
USES = frozenset({"axes"})


def claims(source: Input) -> bool:
    """Tell whether this is a file of numpy."""
    return source.head.startswith(b"\x93NUMPY")


def open_map(path: str, _: Any) -> Any:
    """Return the array of a file; nothing that is pickled is."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def read(source: Input, options: Options) -> Found:
    """Return the image of a file."""
    stored = opened(open_map, (source.text, source.stamp), source.name)
    if stored.dtype.kind not in "biufc":
        raise DeclinedError(f"holds {stored.dtype}, no numbers")
    axes, issues = axes_.named(stored.shape, options, None, source.path.name)
    order = axes_.order(axes)
    pixels = StoredArray(open_map, (source.text, source.stamp), order, source.name)
    scan = Scan([axes[i] for i in order], [pixels], name=source.stem, issues=issues)
    return Found("numpy", {"": lambda: scan})
