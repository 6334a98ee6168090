"""What HDF5 says of a file: links that stay in it, short attributes, and where chunks lie."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.errors import Issue, MetadataError, UnsupportedError
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import h5py

MAX_ATTRIBUTE = 2**16  # bytes
MAX_CHUNKS = 2**24  # that are listed
MAX_GRID = 2**62  # chunks that a dataset has room for
_KNOWN_FILTERS = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32015: "Zstandard",
}
_DEFLATE, _SHUFFLE = 1, 2


@dataclass(frozen=True, slots=True)
class Stored:
    """How a dataset is stored: what chunks of one array must have in common.

    ``level`` is that of deflate, None without it.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    shuffled: bool
    level: int | None
    fill: int | float

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(-(-n // chunk) for n, chunk in zip(self.shape, self.chunks, strict=True))

    def __str__(self) -> str:
        packed = "not compressed" if self.level is None else f"gzip {self.level}"
        shuffled = ", shuffled" if self.shuffled else ""
        return (
            f"{self.dtype} {self.shape} in chunks of {self.chunks}, {packed}{shuffled}, "
            f"filled with {self.fill}"
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """Chunks of a dataset as HDF5 lists them.

    Parameters
    ----------
    start
        The first pixel of each, of shape (chunks, axes).
    mask
        Which filters were left out, as bits.
    offset, size
        Which bytes of the file it is.
    """

    start: NDArray[Any]
    mask: NDArray[Any]
    offset: NDArray[Any]
    size: NDArray[Any]


def child(parent: h5py.Group, name: str, where: str) -> Any:
    """Return what a group holds under a name, or None.

    Raises
    ------
    UnsupportedError
        If it is a link to elsewhere.
    """
    import h5py

    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        kind = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
        raise UnsupportedError(
            f"{where}: {parent.name}/{name} is a link to {kind}: such are not followed: "
            "save it as one file"
        )
    return parent[name]


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """Return a group below another one.

    Raises
    ------
    MetadataError
        If there is none.
    """
    import h5py

    found = child(parent, name, where)
    if not isinstance(found, h5py.Group):
        what = "is missing" if found is None else "expected a group, found a dataset"
        raise MetadataError(where, [Issue(f"{parent.name}/{name}", what, "error")])
    return found


def text(node: h5py.Group, name: str) -> str | None:
    """Return an attribute as text: an array of single characters, or one string.

    None where it is missing, or too long to be one.
    """
    if name not in node.attrs:
        return None
    attribute = node.attrs.get_id(name)
    if attribute.get_storage_size() > MAX_ATTRIBUTE:
        return None
    value = node.attrs[name]
    if isinstance(value, np.ndarray) and value.dtype.kind in "SU":
        # numpy drops the NULs at the end of each, not the blanks
        value = value.astype("S").tobytes() if value.dtype.kind == "S" else "".join(value.flat)
    if isinstance(value, bytes):
        return value.replace(b"\0", b"").decode("utf-8", "replace").strip()
    if isinstance(value, np.ndarray) and value.size != 1:
        return None
    return str(value.item() if isinstance(value, np.ndarray) else value).strip()


def stored(dataset: h5py.Dataset, where: str) -> Stored:
    """Return how a dataset is stored.

    Raises
    ------
    UnsupportedError
        If zarr has no way to read it.
    """
    import h5py

    name = f"{where}: {dataset.name}"
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or dataset.is_virtual:
        raise UnsupportedError(
            f"{name} keeps its pixels in other files, which are not read: save it as one file"
        )
    layout = plan.get_layout()
    if layout == h5py.h5d.COMPACT:
        raise UnsupportedError(
            f"{name} keeps its pixels among the metadata (compact layout): save it again"
        )
    if dataset.dtype.kind not in "uif" or dataset.dtype.itemsize > 8:
        raise UnsupportedError(f"{name} is of type {dataset.dtype}; expected numbers")
    if dataset.shape is None or 0 in dataset.shape:
        raise MetadataError(where, [Issue(str(dataset.name), "is empty", "error")])
    shuffled, level = _filters(plan, name)
    # what is contiguous is read a plane at a time: each is one piece of the file
    chunks = dataset.chunks or (*([1] * max(0, dataset.ndim - 2)), *dataset.shape[-2:])
    found = Stored(
        shape=tuple(map(int, dataset.shape)),
        chunks=tuple(map(int, chunks)),
        dtype=dataset.dtype,
        shuffled=shuffled and dataset.dtype.itemsize > 1,
        level=level,
        fill=dataset.fillvalue.item(),
    )
    if math.prod(found.grid) > MAX_GRID:
        raise UnsupportedError(f"{name} is too large: {found}")
    return found


def _filters(plan: Any, name: str) -> tuple[bool, int | None]:
    """Return whether chunks are shuffled, and the level that they are compressed with."""
    steps = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    codes = [step[0] for step in steps]
    if codes not in ([], [_DEFLATE], [_SHUFFLE], [_SHUFFLE, _DEFLATE]):
        known = (_DEFLATE, _SHUFFLE)
        others = [step for step in steps if step[0] not in known] or steps
        code = others[0][0]
        said = others[0][3].decode("utf-8", "replace") if others[0][3] else ""
        called = _KNOWN_FILTERS.get(code) or printable(said) or "unknown"
        raise UnsupportedError(
            f"{name} is compressed with the HDF5 filter {called} ({code}), for which zarr has no "
            "codec: save the file again with gzip, or without compression"
        )
    level = steps[-1][2][0] if _DEFLATE in codes and steps[-1][2] else 6
    return _SHUFFLE in codes, min(level, 9) if _DEFLATE in codes else None


def listed(dataset: h5py.Dataset, how: Stored, where: str) -> Listed:
    """Return the chunks of a dataset that were written, in the order of the grid.

    Raises
    ------
    MetadataError
        If there are more than it has room for, or too many.
    """
    if dataset.chunks is None:
        return _planes(dataset, how, where)
    most = min(math.prod(how.grid), MAX_CHUNKS)
    # in columns, for there may be millions
    starts, masks, offsets, sizes = array("Q"), array("Q"), array("Q"), array("Q")

    def take(chunk: Any) -> bool | None:
        starts.extend(chunk.chunk_offset)
        masks.append(chunk.filter_mask)
        offsets.append(chunk.byte_offset)
        sizes.append(chunk.size)
        return True if len(masks) > most else None

    dataset.id.chunk_iter(take)
    if len(masks) > most:
        issue = Issue(str(dataset.name), f"lists more than {most} chunks", "error")
        raise MetadataError(where, [issue])
    start = np.array(starts).reshape(-1, len(how.chunks))
    order = np.lexsort(start.T[::-1])
    return Listed(start[order], *(np.array(column)[order] for column in (masks, offsets, sizes)))


def _planes(dataset: h5py.Dataset, how: Stored, where: str) -> Listed:
    offset = dataset.id.get_offset()
    count = 0 if offset is None else math.prod(how.grid)  # None: nothing was written
    if count > MAX_CHUNKS:
        issue = Issue(str(dataset.name), f"has more than {MAX_CHUNKS} planes", "error")
        raise MetadataError(where, [issue])
    size = math.prod(how.chunks) * how.dtype.itemsize
    number = np.arange(count)
    at = np.stack(np.unravel_index(number, how.grid), axis=1)
    return Listed(
        start=at * how.chunks,
        mask=np.zeros(count, dtype=np.uint32),
        offset=((offset or 0) + number * size).astype(np.uint64),
        size=np.full(count, size, dtype=np.uint64),
    )
