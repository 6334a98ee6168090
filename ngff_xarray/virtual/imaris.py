"""Imaris files (``.ims``, HDF5): where their chunks are, as an OME-Zarr 0.4 hierarchy.

An HDF5 chunk that is compressed with gzip is a Zarr v2 chunk, so no pixel is touched. All time
points and channels of a resolution level are one array, of the size that Imaris states: what is
stored is padded to whole chunks. To open a file, the first dataset of each level is looked at; the
others, and where their chunks are, when they are read. So what is wrong with one is found then.

https://imaris.oxinst.com/support/imaris-file-format
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from zarr.abc.store import Store
from zarr.core.sync import sync

from ngff_xarray.errors import Issue, MetadataError, NotOmeError, UnsupportedError
from ngff_xarray.once import Once
from ngff_xarray.progress import Bar
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url
from ngff_xarray.virtual import chunk_tree, hdf5
from ngff_xarray.virtual.blocks import BlockFile
from ngff_xarray.virtual.chunk_tree import ChunkList, Node
from ngff_xarray.virtual.imaris_info import describe
from ngff_xarray.virtual.index import Index, Reference, Row
from ngff_xarray.virtual.targets import MAX_SHOWN, Target, shown

if TYPE_CHECKING:
    import h5py

MAX_DATASETS = 2**18  # levels x time points x channels
MAX_LEVELS = 2**6
MAX_RECENT = 4  # files that other processes sent
AT_ONCE = 64  # datasets of which all chunks are looked up
_AXES = "tczyx"
_CHUNK = re.compile(r"(0|[1-9]\d{0,8})(/(0|[1-9]\d{0,8})){5}")  # level, t, c, z, y, x

Answer = TypeVar("Answer")
Place = tuple[int, ...]
"""Level, time point and channel of a dataset."""


@dataclass(frozen=True, slots=True)
class Level:
    """A resolution level: its true size in z, y and x, and how all its datasets are stored."""

    size: tuple[int, int, int]
    how: hdf5.Stored

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks along each axis are more than padding."""
        return tuple(-(-n // chunk) for n, chunk in zip(self.size, self.how.chunks, strict=True))


def index(store: Store, key: str, place: str) -> tuple[Imaris, list[Issue]]:
    """Return what looks up the chunks of a file, and what is odd in its metadata.

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
        If levels, time points or channels are missing.
    StoreError
        If it is broken, or cannot be read.
    """
    path = None if is_url(place) else Path(place)
    return sync(_open(BlockFile(store, key, shown(place), path), key))


async def _open(file: BlockFile, key: str) -> tuple[Imaris, list[Issue]]:
    def ask(question: Callable[[_Reader], Answer]) -> Awaitable[Answer]:
        return file.ask(lambda content, _: question(_Reader(content, file.name)), ahead=True)

    await file.measure()
    # the end tells whether the file is whole, and holds what was written last: of all of it
    number, _ = await asyncio.gather(ask(_Reader.levels), file.read(file.size - 1, 1, ahead=True))
    levels, (times, channels) = await asyncio.gather(
        asyncio.gather(*(ask(partial(_Reader.level, number=i)) for i in range(number))),
        ask(_Reader.counts),
    )
    if number * times * channels > MAX_DATASETS:
        raise UnsupportedError(
            f"{file.name}: holds {number} x {times} x {channels} datasets, more than {MAX_DATASETS}"
        )
    sizes, dtype = [level.size for level in levels], levels[0].how.dtype
    attributes, issues = await file.ask(
        lambda content, _: describe(content, file.name, sizes, times, channels, dtype), ahead=True
    )
    file.forget_blocks()
    return Imaris(file, key, levels, times, channels, attributes), issues


class Imaris:
    """Looks chunks up in a file, of which only what leads to them is read.

    Parameters
    ----------
    file, key
        The file, and its name in its directory.
    levels, times, channels
        What it holds.
    attributes
        Those of the image.
    """

    def __init__(
        self,
        file: BlockFile,
        key: str,
        levels: Sequence[Level],
        times: int,
        channels: int,
        attributes: Mapping[str, Any],
    ) -> None:
        self._token = uuid.uuid4().hex
        self._file = file
        self._target = Target("", key)
        self._levels = tuple(levels)
        self._counts = times, channels
        self._datasets: Once[Place, ChunkList] = Once()
        self._documents = {
            ".zgroup": '{"zarr_format": 2}',
            ".zattrs": json.dumps(attributes),
        }
        for number, level in enumerate(levels):
            self._documents |= {
                f"{number}/.zarray": json.dumps(_array(level, times, channels)),
                f"{number}/.zattrs": json.dumps({"_ARRAY_DIMENSIONS": list(_AXES)}),
            }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Imaris) and (self._target, self._documents) == (
            other._target,
            other._documents,
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return _again, (self._token, self.__dict__)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of metadata that begin with a prefix: those of chunks are too many."""
        yield from (key for key in self._documents if key.startswith(prefix))

    async def find(self, key: str) -> bytes | Reference | None:
        """Return what stands under a key, or where it is; None if there is nothing."""
        if key in self._documents:
            return self._documents[key].encode()
        if _CHUNK.fullmatch(key) is None:
            return None
        number, *place = map(int, key.split("/"))
        if number >= len(self._levels):
            return None
        level = self._levels[number]
        shape = (*self._counts, *level.how.grid)
        if any(i >= n for i, n in zip(place, shape, strict=True)):
            return None
        t, c, *at = place
        chunks = await self._chunks(number, t, c)
        found = await chunks.find(int(np.ravel_multi_index(at, level.how.grid)))
        return None if found is None else Reference(self._target, *found)

    async def whole(self, bar: Bar) -> Index:
        """Return the index of all chunks, for which all of their trees are read; a bar counts them.

        Raises
        ------
        UnsupportedError
            If there are too many, or some that an index cannot hold.
        """
        gate = asyncio.Semaphore(AT_ONCE)

        async def all_of(*place: int) -> Node:
            async with gate:
                chunks = await (await self._chunks(*place)).all()
            bar.did()
            return chunks

        places = list(np.ndindex(len(self._levels), *self._counts))
        bar.more(len(places))
        found = await asyncio.gather(*(all_of(*place) for place in places))
        count = sum(len(chunks.number) for chunks in found)
        if count > hdf5.MAX_CHUNKS:
            raise UnsupportedError(
                f"{self._file.name}: has {count} chunks, more than {hdf5.MAX_CHUNKS}"
            )
        rows = (self._rows(*each) for each in zip(places, found, strict=True))
        return Index(self._documents, [self._target], chain.from_iterable(rows))

    def _rows(self, place: Place, chunks: Node) -> Iterator[Row]:
        """Yield the references of a dataset."""
        level = self._levels[place[0]]
        at = np.stack(np.unravel_index(chunks.number, level.how.grid), axis=1)
        inside = (at < level.grid).all(axis=1)  # the others are padding alone
        prefix = "/".join(map(str, place))
        if chunks.plain[inside].any():
            raise UnsupportedError(
                f"{self._file.name}: {prefix} has chunks without the compression of their array, "
                "which reference files cannot say; this package opens the file all the same"
            )
        columns = (column[inside].tolist() for column in (at, chunks.offset, chunks.size))
        for (z, y, x), offset, size in zip(*columns, strict=True):
            yield Row(f"{prefix}/{z}/{y}/{x}", 0, offset, size)

    async def _chunks(self, *place: int) -> ChunkList:
        return await self._datasets.get(place, partial(self._look_up, place))

    async def _look_up(self, place: Place) -> ChunkList:
        level = self._levels[place[0]]
        name, top = await self._file.ask(
            lambda content, stream: _Reader(content, self._file.name).chunks(stream, level, place)
        )
        return ChunkList(self._file, name, level.how, top)


_recent: Once[str, Imaris] = Once(MAX_RECENT)


def _again(token: str, state: dict[str, Any]) -> Imaris:
    """Return what was pickled: one object for all tasks of a process, with what it has read."""
    found = _recent.here(token)
    if found is None:
        found = Imaris.__new__(Imaris)
        found.__dict__.update(state)
        _recent.keep(token, found)
    return found


class _Reader:
    """Reads the groups and datasets of a file."""

    def __init__(self, file: h5py.File, where: str) -> None:
        self._file = file
        self._where = where

    def levels(self) -> int:
        """Return how many resolution levels there are."""
        if hdf5.child(self._file, "DataSet", self._where) is None:
            raise NotOmeError(
                f"{self._where}: is no file of Imaris: there is no group 'DataSet': other HDF5 "
                "files are read by ngff_xarray.open_image(path)"
            )
        count = self._numbered(self._group(), "ResolutionLevel")
        if count > MAX_LEVELS:
            self._fail("/DataSet", f"holds {count} resolution levels, more than {MAX_LEVELS}")
        return count

    def counts(self) -> tuple[int, int]:
        """Return how many time points and channels there are."""
        first = self._group(0)
        times = self._said_times(first) or self._numbered(first, "TimePoint")
        return times, self._numbered(self._group(0, 0), "Channel")

    def _said_times(self, first: h5py.Group) -> int | None:
        """Return how many time points the file says that it has, if it has them.

        To list thousands takes many requests, as their names lie scattered between the pixels.
        """
        info = self._info("TimeInfo")
        said = None if info is None else hdf5.text(info, "FileTimePoints")
        if said is None or not re.fullmatch(r"[1-9][0-9]{0,8}", said):
            return None
        held = f"TimePoint {int(said) - 1}" in first and f"TimePoint {said}" not in first
        return int(said) if held else None

    def level(self, number: int) -> Level:
        """Return what all datasets of a level have in common, as its first one says."""
        return self._stored(self._group(number, 0, 0), number)[1]

    def chunks(
        self, stream: io.RawIOBase, expected: Level, place: Place
    ) -> tuple[str, int | hdf5.Listed]:
        """Return the name of a dataset, and where the tree of its chunks is or what it lists."""
        channel = self._group(*place)
        dataset, found = self._stored(channel, place[0])
        if found != expected:
            self._differs(dataset.name, expected, found)
        # other ways to ask where a header is make the library add up the sizes of the tree
        header = channel.id.links.get_info(b"Data").u
        root = chunk_tree.root(stream, header)
        listed = hdf5.listed(dataset, found.how, self._where) if root is None else root
        return str(dataset.name), listed

    def _group(self, *place: int) -> h5py.Group:
        """Return the group of a level, a time point or a channel; without numbers, of all."""
        found = hdf5.group(self._file, "DataSet", self._where)
        for word, number in zip(("ResolutionLevel", "TimePoint", "Channel"), place, strict=False):
            found = hdf5.group(found, f"{word} {number}", self._where)
        return found

    def _stored(self, channel: h5py.Group, number: int) -> tuple[h5py.Dataset, Level]:
        dataset = self._dataset(channel)
        how = hdf5.stored(dataset, self._where)
        if len(how.shape) != 3:
            self._fail(dataset.name, f"expected z, y, x, found {len(how.shape)} axes")
        return dataset, Level(self._true_size(channel, how.shape, number), how)

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
        image = self._info("Image")
        return None if image is None else hdf5.text(image, axis)

    def _info(self, name: str) -> h5py.Group | None:
        info = hdf5.child(self._file, "DataSetInfo", self._where)
        return None if info is None else hdf5.child(info, name, self._where)

    def _numbered(self, parent: h5py.Group, word: str) -> int:
        """Return how many a group holds of ``word 0``, ``word 1`` and so on.

        Raises
        ------
        MetadataError
            If there are none, or some are missing.
        """
        names = islice(parent, 2 * MAX_DATASETS)
        count = len([name for name in names if name.startswith(f"{word} ")])
        for i in range(max(count, 1)):
            if f"{word} {i}" not in parent:
                self._fail(f"{parent.name}/{word} {i}", "is missing")
        return count

    def _fail(self, path: str, message: str) -> NoReturn:
        raise MetadataError(self._where, [Issue(printable(path, MAX_SHOWN), message, "error")])


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
