"""N5: one array of a container, by its path, with tensorstore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ngff_xarray import units
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.stored_array import StoredArray
from ngff_xarray.errors import MissingDependencyError, SelectionError
from ngff_xarray.text import printable

NAME = "N5"
EXTRA = "n5"
USES = frozenset({"path", "axes"})


def claims(source: Input) -> bool:
    """Tell whether this is a folder of N5."""
    return source.is_folder and (source.ends(".n5") or "dimensions" in _attributes(source.path))


class _Read:
    """An array of tensorstore that comes as numpy's."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = tuple(array.shape), array.dtype.numpy_dtype
        self.chunks = tuple(array.chunk_layout.read_chunk.shape or array.shape)

    def __getitem__(self, box: Any) -> Any:
        return self._array[box].read().result()


def open_array(path: str, _: Any) -> Any:
    """Return an array of a container: x first."""
    import tensorstore as ts

    kvstore = {"driver": "file", "path": f"{path}/"}
    context = {"cache_pool": {"total_bytes_limit": 2**26}}
    spec = {"driver": "n5", "kvstore": kvstore, "context": context}
    return _Read(ts.open(spec, read=True, open=True).result())


def read(source: Input, options: Options) -> Found:
    """Return the image that an array is."""
    place = source.path / (options.path or "").strip("/")
    said = _attributes(place)
    if "dimensions" not in said:
        known = [
            each.parent.relative_to(source.path).as_posix()
            for each in sorted(source.path.rglob("attributes.json"))[:200]
            if "dimensions" in _attributes(each.parent)
        ]
        if not known:
            raise DeclinedError("holds no array of N5")
        listed = ", ".join(printable(name, 80) for name in known[:20])
        raise SelectionError(f"{source.name}: give the path= of one of its arrays: {listed}")
    try:
        import tensorstore  # noqa: F401  # before anything is opened
    except ImportError as error:
        raise MissingDependencyError("tensorstore", "n5", f"reading {source.name}") from error
    shape = [int(size) for size in said["dimensions"]][::-1]
    axes, issues = axes_.named(shape, options, _known(said, len(shape)), source.name)
    order = axes_.order(axes)
    stored = [len(shape) - 1 - i for i in order]
    pixels = StoredArray(
        open_array,
        (str(place), (place / "attributes.json").stat().st_mtime_ns),
        stored,
        source.name,
    )
    scan = Scan([axes[i] for i in order], [pixels], source.stem, _sizes(said, axes), issues=issues)
    original = Original("attributes of N5 (JSON)", json.dumps(said))
    return Found("N5", {"": lambda: scan}, original=original)


def _attributes(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "attributes.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _known(said: dict[str, Any], ndim: int) -> list[str] | None:
    """Return the names of the axes, which N5 lists x first."""
    names = said.get("axes")
    if not isinstance(names, list) or len(names) != ndim:
        return None
    return [str(name).lower() for name in reversed(names)]


def _sizes(said: dict[str, Any], axes: list[str]) -> dict[str, Size]:
    """Return the pixel sizes, as BigDataViewer (``pixelResolution``) or others note them."""
    noted = said.get("pixelResolution")
    sizes, unit = said.get("resolution"), None
    if isinstance(noted, dict):
        sizes, unit = noted.get("dimensions"), noted.get("unit")
    listed = said.get("units")
    if isinstance(listed, list) and listed:
        unit = listed[0]
    if not isinstance(sizes, list) or len(sizes) > len(axes):
        return {}
    known = units.unit_name(str(unit)) if unit else None
    space = [axis for axis in "xyz" if axis in axes]
    return {
        axis: (float(size), known)
        for axis, size in zip(space, sizes, strict=False)
        if known is not None and isinstance(size, int | float) and size > 0
    }
