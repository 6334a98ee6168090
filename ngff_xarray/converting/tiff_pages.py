"""The planes of a TIFF file as one array that xarray indexes lazily.

Of a local file, bytes come out of a map of it: pixels that are not compressed are copied from
there, strips and tiles that are compressed are unpacked and kept for a while. Both can be asked for
by many threads at a time. Pickled, an array is the path of its file, which is opened again.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.converting import segments
from ngff_xarray.converting.kept import Kept
from ngff_xarray.errors import MissingDependencyError, NgffError, StoreError, UnsupportedError
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, without_secrets

if TYPE_CHECKING:
    import tifffile

_kept = Kept(2**27)  # bytes of unpacked strips and tiles, of all files
_numbers = itertools.count()
_BLOCK = 2**21  # bytes that dask reads at a time, at least
_MAX_XML = 2**28  # bytes of a companion file
_MAPS = 64  # files of an image that are mapped at a time
_LENT = threading.Lock()

Plan = tuple[tuple[str, tuple[int, ...]], ...]
"""Each axis of an array, with the axes of the file's series that it stands for."""


class TiffHandle:
    """A TIFF file, opened when it is needed.

    Parameters
    ----------
    place
        Its path or URL.
    storage_options
        For fsspec, of a URL.
    companion
        The path of the file that describes it, where it does not do so itself.
    """

    def __init__(
        self,
        place: str,
        storage_options: Mapping[str, Any] | None = None,
        companion: str | None = None,
    ) -> None:
        self.place, self.companion = place, companion
        self._options = dict(storage_options or {})
        self._lock = threading.RLock()
        self._tif: tifffile.TiffFile | None = None
        self._bytes: OrderedDict[str, Any] = OrderedDict()
        self._number = next(_numbers)
        weakref.finalize(self, _kept.drop, self._number)

    def __reduce__(self) -> Any:
        return _handle, (self.place, tuple(sorted(self._options.items())), self.companion)

    @property
    def name(self) -> str:
        """How it is called in errors."""
        return printable(without_secrets(self.place), 500)

    @property
    def tif(self) -> tifffile.TiffFile:
        """The opened file."""
        with self._lock:
            if self._tif is None:
                import tifffile

                with reading(self.name):
                    source = (
                        _remote(self.place, self._options) if is_url(self.place) else self.place
                    )
                    text = None if self.companion is None else companion_text(self.companion)
                    self._tif = tifffile.TiffFile(source, omexml=text)
                weakref.finalize(self, self._tif.close)
            return self._tif

    def page(self, series: int, level: int, number: int) -> Any:
        """Return a page of a series, None if the file has none there."""
        with self._lock, reading(self.name):
            return self.tif.series[series].levels[level].pages[number]

    def content(self, path: str | None, offset: int, count: int) -> Any:
        """Return bytes of a file of the image.

        Raises
        ------
        StoreError
            If it ends before.
        """
        name = self.name if path is None else printable(path, 500)
        source = self._source(path)
        if isinstance(source, np.ndarray):
            found = source[offset : offset + count]
        else:
            with self._lock, reading(name):
                source.seek(offset)
                found = np.frombuffer(source.read(count), np.uint8)
        if len(found) != count or offset < 0:
            raise StoreError(
                f"{name}: ends at {offset + len(found)}, expected {count} bytes from {offset} on: "
                "the file is truncated"
            )
        return found

    def _source(self, path: str | None) -> Any:
        """Return a map of a file here, or the file elsewhere."""
        if path is None:
            return self.tif.filehandle
        with self._lock:
            found = self._bytes.get(path)
            if found is None:
                with reading(printable(path, 500)):
                    found = np.memmap(path, np.uint8, "r")
                self._bytes[path] = found
                if len(self._bytes) > _MAPS:
                    self._bytes.popitem(last=False)
            else:
                self._bytes.move_to_end(path)
            return found

    def kept(self, key: tuple[int, ...], load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is unpacked under a key; by the first thread that asks for it."""
        return _kept.get((self._number, *key), load)


_handles: weakref.WeakValueDictionary[Any, TiffHandle] = weakref.WeakValueDictionary()


def _handle(
    place: str, options: tuple[tuple[str, Any], ...], companion: str | None = None
) -> TiffHandle:
    """Return the one handle of a process for arrays that were sent to it."""
    key = place, repr(options), companion
    with _LENT:
        found = _handles.get(key)
        if found is None:
            found = _handles[key] = TiffHandle(place, dict(options), companion)
        return found


def companion_text(path: str) -> str:
    """Return the OME-XML in a file.

    Raises
    ------
    StoreError
        If it cannot be read, or is larger than such documents are.
    """
    try:
        content = Path(path).read_bytes() if Path(path).stat().st_size <= _MAX_XML else None
        if content is not None:
            return content.decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{printable(path, 500)}: cannot be read: {error}") from error
    raise StoreError(f"{printable(path, 500)}: is larger than {_MAX_XML} bytes: it is refused")


def _remote(url: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    return fsspec.open(url, "rb", **options).open()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Name the file in whatever tifffile and its codecs raise."""
    try:
        yield
    except (NgffError, MemoryError):
        raise
    except ImportError as error:
        raise MissingDependencyError("imagecodecs", "tiff", f"reading {name}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {printable(error, 300)}"
        if "imagecodecs" in text:
            raise MissingDependencyError("imagecodecs", "tiff", f"reading {name}") from error
        raise StoreError(f"{name}: cannot be read: {text}") from error


class PageArray(BackendArray):
    """The pixels of a level of a series.

    Parameters
    ----------
    handle
        The file.
    series, level
        Which.
    plan
        The axes that the array is to have, y and x last; the sizes of the others.
    fill
        Whether planes that are not there are zeros.
    """

    def __init__(
        self, handle: TiffHandle, series: int, level: int, plan: Plan, *, fill: bool
    ) -> None:
        self._handle, self._series, self._level = handle, series, level
        self._plan, self._fill = plan, fill
        found = handle.tif.series[series].levels[level]
        keyframe = found.keyframe
        self._stored = tuple(found.shape)
        self._check(found, keyframe)
        self._frames = _frame_axes(found)
        self._tile = _tile(keyframe)
        self._is_plain = _is_plain(keyframe)
        self._offset = found.dataoffset if self._is_plain else None
        self._path = None if is_url(handle.place) else handle.place
        self.dtype = np.dtype(found.dtype.newbyteorder("="))
        self._file_dtype = np.dtype(keyframe.parent.byteorder + self.dtype.char)
        self._shaped = tuple(keyframe.shaped)
        self.shape = tuple(math.prod(self._stored[i] for i in axes) for _, axes in plan)
        self.blocks = (*(1 for _ in plan[:-2]), *self._grown())

    def _grown(self) -> tuple[int, int]:
        """Return the height and width of several strips or tiles, as a task of dask reads them."""
        (height, width), (most, widest) = self._tile, self.shape[-2:]
        while height * width * self.dtype.itemsize < _BLOCK and (height < most or width < widest):
            if (width <= height and width < widest) or height >= most:
                width *= 2
            else:
                height *= 2
        return min(height, most), min(width, widest)

    def _check(self, series: Any, keyframe: Any) -> None:
        if keyframe.shaped[1] > 1 or series.transform is not None:
            raise UnsupportedError(
                f"{self._handle.name}: its pixels are stored in a way that this reader does not "
                f"know (pages of {keyframe.shape}, axes {keyframe.axes})"
            )

    def check_end(self) -> None:
        """Check that the file has the last page, whole.

        Raises
        ------
        StoreError
            If it ends before.
        """
        handle = self._handle
        count = math.prod(self._stored[i] for i in self._frames)
        if self._offset is not None:
            size = count * math.prod(self._shaped) * self.dtype.itemsize
            handle.content(self._path, self._offset + size - 1, 1)
            return
        page = handle.page(self._series, self._level, count - 1)
        if page is not None:
            both = zip(page.dataoffsets, page.databytecounts, strict=False)
            end, size = max(((offset + n, n) for offset, n in both), default=(0, 0))
            if size:
                handle.content(self._path_of(page), end - 1, 1)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        *outer, rows, columns = (
            range(size)[part] if isinstance(part, slice) else range(part, part + 1)
            for part, size in zip(key, self.shape, strict=True)
        )
        found = np.empty([len(part) for part in (*outer, rows, columns)], self.dtype)
        if found.size:
            with reading(self._handle.name):
                for place in itertools.product(*(range(len(part)) for part in outer)):
                    at = [part[i] for part, i in zip(outer, place, strict=True)]
                    self._fill_plane(found[place], at, rows, columns)
        return found[tuple(0 if isinstance(part, int) else slice(None) for part in key)]

    def _fill_plane(
        self, target: NDArray[Any], at: Sequence[int], rows: range, columns: range
    ) -> None:
        """Read a part of a plane, by its place along the axes before y and x."""
        index = [0] * len(self._stored)
        for number, (_, axes) in zip(at, self._plan[:-2], strict=True):
            where = np.unravel_index(number, [self._stored[i] for i in axes])
            for axis, i in zip(axes, where, strict=True):
                index[axis] = int(i)
        frames = [self._stored[i] for i in self._frames]
        frame = [index[i] for i in self._frames]
        number = int(np.ravel_multi_index(frame, frames)) if frames else 0
        rest = [i for i in range(len(self._stored)) if i not in self._frames]
        sample = sum(index[i] for i in rest)  # of y and x it is 0; another axis is that of samples
        if self._offset is not None:
            size = math.prod(self._shaped) * self.dtype.itemsize
            content = self._handle.content(self._path, self._offset + number * size, size)
            target[...] = self._plane(content, sample)[_cut(rows), _cut(columns)]
            return
        page = self._handle.page(self._series, self._level, number)
        if page is None:
            self._miss(number, target)
        elif self._is_plain and page.is_contiguous:
            self._fill_plain(target, page, sample, rows, columns)
        else:
            self._fill_segments(target, page, number, sample, rows, columns)

    def _miss(self, number: int, target: NDArray[Any]) -> None:
        if not self._fill:
            raise StoreError(
                f"{self._handle.name}: the plane {number} of the image {self._series} is not in "
                "the file, or in a file that is not there: it is truncated, or was not finished; "
                "give missing='fill' for zeros"
            )
        target[...] = 0

    def _plane(self, content: Any, sample: int) -> NDArray[Any]:
        """Return a plane of bytes that are not compressed, as it is in the file."""
        samples, _, height, width, together = self._shaped
        whole = content.view(self._file_dtype).reshape(samples, height, width, together)
        plane: NDArray[Any] = whole[sample, :, :, 0] if samples > 1 else whole[0, :, :, sample]
        return plane

    def _fill_plain(
        self, target: NDArray[Any], page: Any, sample: int, rows: range, columns: range
    ) -> None:
        size = math.prod(self._shaped) * self.dtype.itemsize
        content = self._handle.content(self._path_of(page), page.dataoffsets[0], size)
        target[...] = self._plane(content, sample)[_cut(rows), _cut(columns)]

    def _path_of(self, page: Any) -> str | None:
        return None if self._path is None else os.fspath(page.parent.filehandle.path)

    def _fill_segments(
        self,
        target: NDArray[Any],
        page: Any,
        number: int,
        sample: int,
        rows: range,
        columns: range,
    ) -> None:
        """Put together what strips or tiles hold of a part of a plane."""
        high, wide = self._tile
        samples, _, height, width, _ = self._shaped
        down, across = -(-height // high), -(-width // wide)
        first = sample * down * across if samples > 1 else 0
        inner = 0 if samples > 1 else sample
        for i, j in itertools.product(_touched(rows, high), _touched(columns, wide)):
            segment = first + i * across + j
            y, y_in = _within(rows, i * high, min((i + 1) * high, height))
            x, x_in = _within(columns, j * wide, min((j + 1) * wide, width))
            key = self._series, self._level, number, segment
            pixels = self._handle.kept(key, partial(self._segment, page, segment))
            target[y, x] = 0 if pixels.ndim == 0 else pixels[y_in, x_in, inner]

    def _segment(self, page: Any, number: int) -> NDArray[Any]:
        """Return a strip or tile, unpacked: rows, columns and samples; one zero if it is empty."""
        keyframe = page.keyframe
        offsets, counts = page.dataoffsets, page.databytecounts
        if number >= len(offsets) or not counts[number] or not offsets[number]:
            return np.zeros((), self.dtype)
        content = self._handle.content(self._path_of(page), offsets[number], counts[number])
        tables = {}
        if page.jpegtables is not None:
            tables["jpegtables"] = page.jpegtables
        if keyframe.jpegheader is not None:
            tables["jpegheader"] = keyframe.jpegheader
        packed = content.tobytes()
        size = math.prod(self._tile) * self._shaped[4]
        segments.check(keyframe.compression, packed, size, self.dtype.itemsize, self._handle.name)
        decoded = keyframe.decode(packed, number, _fullsize=True, **tables)[0]
        if decoded is None:
            return np.zeros((), self.dtype)
        pixels: NDArray[Any] = np.asarray(decoded)
        return pixels.reshape(pixels.shape[-3:])


def _frame_axes(series: Any) -> tuple[int, ...]:
    """Return which axes of a series count its pages."""
    shape, size = series.shape, series.keyframe.size
    inside = 1
    for i in reversed(range(len(shape))):
        inside *= shape[i]
        if inside == size:
            return tuple(range(i))
    raise UnsupportedError(f"a series of shape {shape} is not made of pages of {size} pixels")


def _tile(keyframe: Any) -> tuple[int, int]:
    """Return the height and width of the tiles or strips of a page."""
    if keyframe.is_tiled:
        return keyframe.tilelength, keyframe.tilewidth
    rows = keyframe.rowsperstrip or keyframe.imagelength
    return min(rows, keyframe.imagelength), keyframe.imagewidth


def _is_plain(keyframe: Any) -> bool:
    """Tell whether the pixels stand in the file as they are in memory."""
    return bool(
        keyframe.compression == 1
        and keyframe.predictor == 1
        and keyframe.fillorder == 1
        and keyframe.is_contiguous
        and keyframe.bitspersample == keyframe.dtype.itemsize * 8
    )


def _cut(part: range) -> slice:
    """Return the slice that a range stands for."""
    stop = part.stop if part.step > 0 or part.stop >= 0 else None
    return slice(part.start, stop, part.step)


def _touched(part: range, size: int) -> range:
    """Return which blocks of a size hold pixels of a part."""
    low, high = min(part[0], part[-1]), max(part[0], part[-1])
    return range(low // size, high // size + 1)


def _within(part: range, start: int, stop: int) -> tuple[slice, slice]:
    """Return which entries of a part a block holds, and where in the block they are."""
    first, last = (start, stop - 1) if part.step > 0 else (stop - 1, start)
    skipped = max(0, -((part.start - first) // part.step))
    count = max(0, min(len(part), (last - part.start) // part.step + 1) - skipped)
    inside = part[skipped : skipped + count]
    if not inside:
        return slice(0, 0), slice(0, 0)
    shifted = range(inside.start - start, inside.stop - start, inside.step)
    return slice(skipped, skipped + count), _cut(shifted)
