"""Which sources are virtual. Light: xarray asks for every file that anyone opens."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ngff_xarray.urls import is_url, local_path

Kind = Literal["imaris", "json", "parquet", "mapping"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_SUFFIXES: Mapping[str, Kind] = {
    ".ims": "imaris",
    ".json": "json",
    ".parq": "parquet",
    ".parquet": "parquet",
}


def kind_of(source: Any) -> Kind | None:
    """Return what kind of virtual source this is by its name, or None.

    Examples
    --------
    >>> kind_of("https://host/scan.ims?signature=a/b"), kind_of("s3://bucket/refs.parq/")
    ('imaris', 'parquet')
    >>> kind_of({"version": 1, "refs": {}}), kind_of("image.ome.zarr")
    ('mapping', None)
    """
    if isinstance(source, Mapping):
        return "mapping"
    if not isinstance(source, str | os.PathLike):
        return None
    text = local_path(os.fspath(source))
    if is_url(text):
        name = re.split(r"[?#]", text)[0].rstrip("/").rpartition("/")[2]
        return _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    path = Path(text).expanduser()
    kind = _SUFFIXES.get(path.suffix.lower())
    if path.is_dir():
        return "parquet" if kind == "parquet" or _holds_records(path) else None
    return kind if path.is_file() and kind != "parquet" else None


def _holds_records(path: Path) -> bool:
    """Tell whether a directory is one of references in Parquet."""
    said = path / ".zmetadata"
    if (path / ".zgroup").exists() or not said.is_file():
        return False
    try:
        document = json.loads(said.read_bytes())
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(document, dict) and "record_size" in document


def is_imaris(source: str | os.PathLike[str]) -> bool:
    """Tell whether a source that is named ``….ims`` is one of Imaris, by a short look.

    A remote one is told by its name alone. One that is broken, and any where h5py is missing,
    is told by its first bytes, so that the error that follows says so.
    """
    text = local_path(os.fspath(source))
    if is_url(text):
        return True
    path = Path(text).expanduser()
    try:
        with path.open("rb") as stream:
            if stream.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
                return False
        import h5py

        with h5py.File(path, "r", locking=False) as file:
            return "ImarisDataSet" in file.attrs or "ImarisVersion" in file.attrs
    except ImportError:
        return True
    except (OSError, RuntimeError):
        return path.is_file()
