"""Imaris files (``.ims``, HDF5): the index of their chunks, as an OME-Zarr 0.4 hierarchy.

An HDF5 chunk that is compressed with gzip is a Zarr v2 chunk, so no pixel is touched. All time
points and channels of a resolution level are one array, of the size that Imaris states: what is
stored is padded to whole chunks.

https://imaris.oxinst.com/support/imaris-file-format
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from zarr.abc.store import Store

from ngff_xarray.errors import (
    Issue,
    MetadataError,
    MissingDependencyError,
    NgffError,
    NotOmeError,
    StoreError,
    UnsupportedError,
)
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url
from ngff_xarray.virtual import hdf5
from ngff_xarray.virtual.blocks import SMALL, BlockFile
from ngff_xarray.virtual.imaris_info import describe
from ngff_xarray.virtual.index import Index, Row
from ngff_xarray.virtual.scout import read_ahead
from ngff_xarray.virtual.targets import MAX_SHOWN, Target, shown

if TYPE_CHECKING:
    import h5py

MAX_DATASETS = 2**18  # levels x time points x channels
MAX_CHUNKS = 2**24
_AXES = "tczyx"
_FRAME = 64  # bytes that a compressed chunk may be longer than its pixels: zlib's frame and more


@dataclass(frozen=True, slots=True)
class Level:
    """A resolution level: its true size in z, y and x, and how all its datasets are stored."""

    size: tuple[int, int, int]
    how: hdf5.Stored


def index(store: Store, key: str, place: str) -> tuple[Index, list[Issue]]:
    """Return the index of a file, and what is odd in its metadata.

    Parameters
    ----------
    store, key
        The directory that it is in, and its name there.
    place
        Its absolute path or URL.

    Raises
    ------
    NotOmeError
        If it is no file of Imaris.
    UnsupportedError
        If its pixels are compressed or laid out in a way that zarr cannot read.
    MetadataError
        If levels, time points or channels are missing or do not fit together.
    StoreError
        If it is broken, or cannot be read.
    """
    where = shown(place)
    with _opened(store, key, place, where) as (file, blocks, size):
        if file.userblock_size:
            raise UnsupportedError(f"{where}: has a user block before its HDF5")
        if hdf5.child(file, "DataSet", where) is None:
            raise NotOmeError(f"{where}: is no file of Imaris: there is no group 'DataSet'")
        return _Reader(file, blocks, where, size).index(Target("", key))


@contextmanager
def _opened(
    store: Store, key: str, place: str, where: str
) -> Iterator[tuple[h5py.File, BlockFile | None, int]]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("h5py", "imaris", "reading Imaris files") from error
    blocks = BlockFile(store, key, where) if is_url(place) else None
    try:
        opened = h5py.File(blocks or place, "r", **({} if blocks else {"locking": False}))
        with opened as file:
            yield file, blocks, blocks.size if blocks else Path(place).stat().st_size
    except NgffError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        # h5py raises whatever the library said; a failed request is the truer cause
        cause = (blocks and blocks.failure) or error
        text = printable(cause, MAX_SHOWN)
        raise StoreError(f"{where}: cannot be read as HDF5: {text}") from cause


class _Reader:
    """Reads one file."""

    def __init__(self, file: h5py.File, blocks: BlockFile | None, where: str, size: int) -> None:
        self._file = file
        self._blocks = blocks
        self._where = where
        self._size = size
        self._count = 0
        self._rows: list[Iterator[Row]] = []

    def index(self, target: Target) -> tuple[Index, list[Issue]]:
        data = hdf5.group(self._file, "DataSet", self._where)
        names = self._numbered(data, "ResolutionLevel")
        first = hdf5.group(data, names[0], self._where)
        times = len(self._numbered(first, "TimePoint"))
        channels = len(self._numbered(hdf5.group(first, "TimePoint 0", self._where), "Channel"))
        if len(names) * times * channels > MAX_DATASETS:
            self._fail(
                "/DataSet",
                f"holds {len(names)} x {times} x {channels} datasets, more than {MAX_DATASETS}",
            )
        groups = [hdf5.group(data, name, self._where) for name in names]
        if self._blocks is not None and self._blocks.size > SMALL:
            read_ahead(groups, self._blocks)
        levels = [
            self._level(number, group, times, channels) for number, group in enumerate(groups)
        ]
        attributes, issues = describe(
            self._file, self._where, [level.size for level in levels], times, channels,
            levels[0].how.dtype,
        )  # fmt: skip
        inline: dict[str, str | bytes] = {
            ".zgroup": '{"zarr_format": 2}',
            ".zattrs": json.dumps(attributes),
        }
        for number, level in enumerate(levels):
            inline[f"{number}/.zarray"] = json.dumps(_array(level, times, channels))
            inline[f"{number}/.zattrs"] = json.dumps({"_ARRAY_DIMENSIONS": list(_AXES)})
        return Index(inline, [target], chain.from_iterable(self._rows)), issues

    def _level(self, number: int, group: h5py.Group, times: int, channels: int) -> Level:
        """Return what all datasets of a level have in common, and keep where their chunks are."""
        common: Level | None = None
        for t in range(times):
            time = hdf5.group(group, f"TimePoint {t}", self._where)
            for c in range(channels):
                channel = hdf5.group(time, f"Channel {c}", self._where)
                dataset = self._dataset(channel)
                how = hdf5.stored(dataset, self._where)
                if len(how.shape) != 3:
                    self._fail(dataset.name, f"expected z, y, x, found {len(how.shape)} axes")
                found = Level(self._true_size(channel, how.shape, number), how)
                common = common or found
                if found != common:
                    self._differs(dataset.name, common, found)
                self._keep(dataset, found, f"{number}/{t}/{c}")
        assert common is not None
        return common

    def _dataset(self, channel: h5py.Group) -> h5py.Dataset:
        import h5py

        found = hdf5.child(channel, "Data", self._where)
        if not isinstance(found, h5py.Dataset):
            self._fail(f"{channel.name}/Data", "expected a dataset: is the file complete?")
        return found

    def _differs(self, name: str, expected: Level, found: Level) -> NoReturn:
        if found.size != expected.size:
            text = f"is of size {found.size}, others of its level are {expected.size}"
        else:
            text = f"is stored as {found.how}, others of its level as {expected.how}"
        raise UnsupportedError(f"{self._where}: {name}: {text}: no array can hold both")

    def _true_size(
        self, channel: h5py.Group, stored: tuple[int, ...], level: int
    ) -> tuple[int, int, int]:
        """Return the size in z, y and x that Imaris states; what is stored is padded."""
        size = []
        for axis, most in zip("ZYX", stored, strict=True):
            name = f"ImageSize{axis}"
            said = hdf5.text(channel, name)
            at = f"{channel.name}.{name}"
            if said is None and level == 0:
                at = f"/DataSetInfo/Image.{axis}"
                said = self._whole_size(axis)
            if said is None:
                self._fail(at, "is missing: where the pixels end and padding begins is not told")
            if not re.fullmatch(r"[0-9]{1,18}", said) or not 0 < int(said) <= most:
                self._fail(at, f"expected 1 to {most}, found {printable(said)!r}")
            size.append(int(said))
        return size[0], size[1], size[2]

    def _whole_size(self, axis: str) -> str | None:
        info = hdf5.child(self._file, "DataSetInfo", self._where)
        image = None if info is None else hdf5.child(info, "Image", self._where)
        return None if image is None else hdf5.text(image, axis)

    def _keep(self, dataset: h5py.Dataset, level: Level, prefix: str) -> None:
        how = level.how
        found = hdf5.chunks(dataset, how, self._where)
        grid = [-(-n // chunk) for n, chunk in zip(level.size, how.chunks, strict=True)]
        inside = (found.at < grid).all(axis=1)  # the others are padding alone
        at, offset, size = found.at[inside], found.offset[inside], found.size[inside]
        end = np.uint64(self._size)
        beyond = (offset > end) | (size > end - np.minimum(offset, end))
        if beyond.any():
            raise StoreError(
                f"{self._where}: is {self._size} bytes long and ends before the chunk "
                f"{tuple(at[beyond][0].tolist())} of {dataset.name}"
            )
        most = math.prod(how.chunks) * how.dtype.itemsize
        if (size > most + most // 8 + _FRAME).any():
            self._fail(
                dataset.name, f"has a chunk of {int(np.max(size))} bytes for {most} of pixels"
            )
        self._count += len(at)
        if self._count > MAX_CHUNKS:
            self._fail(dataset.name, f"brings the chunks to more than {MAX_CHUNKS}")
        self._rows.append(_rows(prefix, at, offset, size, found.plain[inside]))

    def _numbered(self, parent: h5py.Group, word: str) -> list[str]:
        """Return the names ``word 0``, ``word 1``, … of what a group holds.

        Raises
        ------
        MetadataError
            If there are none, or some are missing.
        """
        count = len(parent)
        names = [f"{word} {i}" for i in range(min(count, MAX_DATASETS))]
        found = {name for name in parent if name.startswith(f"{word} ")}
        names = names[: len(found)]
        missing = [name for name in names if name not in found]
        if not names or missing:
            expected = missing[0] if missing else f"{word} 0"
            self._fail(f"{parent.name}/{expected}", "is missing")
        return names

    def _fail(self, path: str, message: str) -> NoReturn:
        raise MetadataError(self._where, [Issue(printable(path, MAX_SHOWN), message, "error")])


def _rows(prefix: str, at: Any, *columns: Any) -> Iterator[Row]:
    """Yield the references of a dataset."""
    numbers = (column.tolist() for column in columns)
    for (z, y, x), offset, size, plain in zip(at.tolist(), *numbers, strict=True):
        yield Row(f"{prefix}/{z}/{y}/{x}", 0, offset, size, plain)


def _array(level: Level, times: int, channels: int) -> dict[str, Any]:
    """Return the Zarr v2 metadata of a level."""
    how = level.how
    shuffle = {"id": "shuffle", "elementsize": how.dtype.itemsize}
    fill = how.fill if math.isfinite(how.fill) else str(how.fill).replace("nan", "NaN")
    return {
        "zarr_format": 2,
        "shape": [times, channels, *level.size],
        "chunks": [1, 1, *how.chunks],
        "dtype": how.dtype.str,
        "order": "C",
        "dimension_separator": "/",
        "fill_value": fill.replace("inf", "Infinity") if isinstance(fill, str) else fill,
        "filters": [shuffle] if how.shuffled else None,
        "compressor": None if how.level is None else {"id": "zlib", "level": how.level},
    }
