"""Arrays -> a store: the levels of an image, all in one go, and whatever else is an array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import MemoryStore

from ngff_xarray import image, pyramid, store
from ngff_xarray.boxes import Box
from ngff_xarray.contrast import Contrast
from ngff_xarray.describe import other_attributes
from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.image import Obj
from ngff_xarray.layout import Layout
from ngff_xarray.lazy import lazy, stored_whole
from ngff_xarray.model import Image
from ngff_xarray.progress import Bar
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.spec import omero
from ngff_xarray.storage import ChunkWriter, Copying, are_alike, is_shared
from ngff_xarray.text import printable
from ngff_xarray.write.journal import Journal
from ngff_xarray.write.writing import Writing

_REPEATED = ("compressors", "filters", "serializer", "fill_value")
_BLOCK_BYTES = 2**26  # written at once


def lacks_omero(obj: Obj) -> bool:
    """Tell whether nothing is said of the ranges in which the channels of an image are shown."""
    if image.group_kind(obj) is not None or image.kind(obj) != "image":
        return False
    said = image.ome(obj).get("omero")
    return said is None or not omero.has_windows(said)


def write_array(
    target: Store,
    path: str,
    array: xr.DataArray,
    names: Sequence[str] | None,
    writing: Writing,
) -> None:
    """Write an array, with all of its pixels."""
    _Target(_created(target, path, array, names, writing)).fill(array)


def _created(
    target: Store,
    path: str,
    array: xr.DataArray,
    names: Sequence[str] | None,
    writing: Writing,
) -> zarr.Array[Any]:
    options = storage(array, names, writing)
    with _named(path):
        return zarr.create_array(
            target,
            name=path,
            shape=array.shape,
            dtype=array.dtype,
            attributes=other_attributes(array),
            overwrite=True,  # what a run that was killed has left
            **options,
        )


def _left(
    target: Store,
    path: str,
    array: xr.DataArray,
    names: Sequence[str],
    writing: Writing,
    *,
    is_noted: bool,
) -> _Target | None:
    """Return a level that was begun and is to be the same; None if there is none.

    What is there of it is known by keys, of levels that are copied, or else by notes.
    """
    source = stored_whole(array.variable)
    if not writing.goes_on or not (is_noted or source is not None):
        return None
    try:
        found = zarr.open_array(target, path=path, mode="r+")
    except (zarr.errors.BaseZarrError, OSError, ValueError, KeyError):  # whatever was left
        return None
    planned = _created(MemoryStore(), path, array, names, writing)
    if repr(found.metadata.to_dict()) != repr(planned.metadata.to_dict()):
        return None
    if writing.zarr_format == 2 and not store.run(target.exists(store.join(path, ".zattrs"))):
        return None  # it was killed between the two documents
    if source is not None and are_alike(source, found):
        return _Target(found, frozenset(store.run(_keys(target, path))))
    return _Target(found) if is_noted else None


async def _keys(target: Store, path: str) -> list[str]:
    return [key async for key in target.list_prefix(f"{path}/" if path else "")]


def contrast_of(obj: Obj, writing: Writing) -> Contrast | None:
    """Return what is to find out how the channels are best shown, if nothing says so."""
    finest = image.levels(obj)[0]
    if not (writing.contrast and lacks_omero(obj) and finest.dtype.kind in "biuf"):
        return None
    dim = image.channel_dim(finest)
    return Contrast(finest.shape, None if dim is None else finest.dims.index(dim))


def with_contrast(content: Image, finest: xr.DataArray, windows: Sequence[Any]) -> Image:
    """Return an image that says how its channels are best shown."""
    numbers = [str(i) for i in range(len(windows))]
    names = numbers if len(windows) > 1 else [content.multiscale.name or "0"]
    if content.omero is None and omero.is_true_color(len(windows), finest.dtype):
        return replace(content, omero=omero.true_color(names))
    shown = content.omero or omero.made(names, finest.dtype)
    return replace(content, omero=omero.with_windows(shown, windows))


def write_levels(
    target: Store,
    paths: Sequence[str],
    arrays: Sequence[xr.DataArray],
    names: Sequence[str],
    writing: Writing,
    contrast: Contrast | None,
) -> None:
    """Write the levels of an image; a pyramid that is still to be computed, while it is."""
    variables = [array.variable for array in arrays]
    found = pyramid.derived(variables)
    step = pyramid.by_levels(variables) if found is not None else None
    journal = None
    if step is None:  # or else levels are changed after they were made
        size = arrays[0].dtype.itemsize
        journal = Journal.of(target, paths[0], arrays[0].shape, size, writing)
    whole = None if journal is None else journal.whole()
    if journal is not None and whole is not None:
        if contrast is not None and whole.contrast is not None:
            contrast.merge(whole.contrast)
        journal.end(contrast)
        return
    targets = [
        _left(target, path, array, names, writing, is_noted=journal is not None)
        or _Target(_created(target, path, array, names, writing))
        for path, array in zip(paths, arrays, strict=True)
    ]
    if found is not None and step is not None:
        _write_cascade(variables[0], found[0], step, targets, writing, contrast)
    elif found is not None:
        _write_pyramid(arrays[0], *found, targets, writing, contrast, journal)
    else:
        for number, (each, array) in enumerate(zip(targets, arrays, strict=True)):
            notes = contrast if number == 0 else None
            _write_level(each, array, writing, notes, journal, number)
    if journal is not None:
        journal.end(contrast)


def _write_pyramid(
    finest: xr.DataArray,
    levels: Sequence[pyramid.PlannedLevel],
    method: str,
    targets: Sequence[_Target],
    writing: Writing,
    contrast: Contrast | None,
    journal: Journal | None,
) -> None:
    """Write a level and those that are still to be computed of it: here, or on a cluster."""
    variable = finest.variable
    with shown_progress("writing", "B", writing.progress, finest.nbytes) as bar:
        if pyramid.spread(
            variable, levels, method, targets, contrast=contrast, bar=bar, journal=journal
        ):
            return
        near = pyramid.block_size(variable)
        if not pyramid.is_better_apart(levels, targets, near, finest.dtype.itemsize):
            with _copied(variable, targets, bar) as (source, others):
                _build(source, levels, method, others, contrast, bar, journal)
            return
    _write_level(targets[0], finest, writing, contrast, journal, 0)
    others = [targets[0].left_out(), *targets[1:]]
    with shown_progress("writing levels", "B", writing.progress, finest.nbytes) as bar:
        _build(targets[0].variable(), levels, method, others, None, bar, journal)


def _build(
    source: xr.Variable,
    levels: Sequence[pyramid.PlannedLevel],
    method: str,
    targets: Sequence[_Target],
    contrast: Contrast | None,
    bar: Bar,
    journal: Journal | None,
) -> None:
    """Write levels of a pyramid here."""
    threads, near = pyramid.processors(), pyramid.block_size(source)
    pyramid.build(
        pyramid.reader(source, threads, sides=pyramid.sides(levels, targets, near)),
        levels,
        pyramid.reduction(method, source.dtype),
        targets,
        threads=threads,
        contrast=contrast,
        done=bar.did,
        show=bar.show,
        journal=journal,
        near=near,
    )


def _write_cascade(
    finest: xr.Variable,
    levels: Sequence[pyramid.PlannedLevel],
    step: Callable[[int], pyramid.Step],
    targets: Sequence[_Target],
    writing: Writing,
    contrast: Contrast | None,
) -> None:
    """Write a level and those that are computed of it one after another: here."""
    threads = pyramid.processors()
    with (
        shown_progress("writing", "B", writing.progress, finest.nbytes) as bar,
        _copied(finest, targets, bar) as (source, others),
    ):
        pyramid.build_by_levels(
            lambda sides: pyramid.reader(source, threads, sides=sides),
            levels,
            step,
            others,
            threads=threads,
            contrast=contrast,
            done=bar.did,
            show=bar.show,
        )


@contextmanager
def _copied(
    finest: xr.Variable, targets: Sequence[_Target], bar: Bar
) -> Iterator[tuple[xr.Variable, Sequence[_Target]]]:
    """Let the chunks of the finest level be copied as they are stored, where they can be.

    What comes from a network is copied when it is read for the other levels, the rest at the end.
    """
    copying = targets[0].copying(finest)
    if copying is None:
        yield finest, targets
        return
    passing = xr.Variable(finest.dims, lazy(copying.passing()), encoding=finest.encoding)
    yield passing, [targets[0].left_out(), *targets[1:]]
    with _named(targets[0].path):
        copying.copy(lambda _: None, bar.show)


def _write_level(
    target: _Target,
    array: xr.DataArray,
    writing: Writing,
    contrast: Contrast | None,
    journal: Journal | None,
    number: int,
) -> None:
    """Write a level as it is: here, or on a cluster."""
    alone = pyramid.PlannedLevel(array.shape, (1,) * array.ndim, (1,) * array.ndim)
    notes = None if journal is None else journal.of_level(number)
    with shown_progress("writing", "B", writing.progress, array.nbytes) as bar:
        if pyramid.spread(
            array.variable, [alone], "nearest", [target], contrast=contrast, bar=bar, journal=notes
        ):
            return
        if contrast is None and target.copy(array.variable, bar):
            return
        _build(array.variable, [alone], "nearest", [target], contrast, bar, notes)


class _Target:
    """Where a level is written, whose name is in the errors."""

    def __init__(self, array: zarr.Array[Any], there: Collection[str] = ()) -> None:
        self._array, self._writer, self._there = array, ChunkWriter(array), there
        self.chunks = self._writer.chunks
        self.objects = array.shards or array.chunks
        self.path = array.path
        self.is_shared = is_shared(array.store_path.store)

    def copying(self, variable: xr.Variable) -> Copying | None:
        """Return what copies the chunks of a variable; None if they are stored in another way."""
        source = stored_whole(variable)
        if source is None or not are_alike(source, self._array):
            return None
        return Copying(source, self._array, self._there)

    def left_out(self) -> _LeftOut:
        """Return the same for who need not write it."""
        return _LeftOut(self._array)

    def __reduce__(self) -> tuple[type[_Target], tuple[zarr.Array[Any]]]:
        return _Target, (self._array,)

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        with _named(self._array.path):
            self._writer.write(start, pixels)

    def write_over(self, box: Box, change: Callable[[NDArray[Any], Box], None]) -> None:
        """Change pixels that were written."""
        with _named(self._array.path):
            pixels = np.array(self._array[box])
            change(pixels, box)
            self._array[box] = pixels

    def reader(self, threads: int) -> Callable[[Box], NDArray[Any]]:
        """Return what reads boxes of what was written."""
        return pyramid.reader(self.variable(), threads)

    def variable(self) -> xr.Variable:
        """Return what was written."""
        dims = [f"dim_{i}" for i in range(self._array.ndim)]
        return xr.Variable(dims, lazy(self._array), encoding={"chunks": self._array.chunks})

    def is_settled(self, box: Box) -> bool:
        return self._writer.is_settled(box)

    def copy(self, variable: xr.Variable, bar: Bar) -> bool:
        """Copy the chunks of a variable as they are stored, if they can be; tell whether."""
        copying = self.copying(variable)
        if copying is None:
            return False
        with _named(self.path):
            copying.copy(bar.did, bar.show)
        return True

    def fill(self, array: xr.DataArray) -> None:
        """Write all pixels of an array of any dtype, in large blocks."""
        if self.copy(array.variable, Bar()):
            return
        unit = self._array.shards or self._array.chunks
        for box in blocks(array.shape, unit, array.dtype.itemsize):
            pixels = np.asarray(array[box].values)
            with _named(self._array.path):
                self._array[box] = pixels


class _LeftOut(_Target):
    """What is written by other means."""

    def write(self, start: Sequence[int], pixels: NDArray[Any]) -> None:
        pass


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the array in whatever zarr and its codecs raise; they take any options of a store."""
    try:
        yield
    except (NgffError, OSError, zarr.errors.BaseZarrError, MemoryError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {printable(error, 500)}"
        raise StoreError(f"{printable(path, 200)}: cannot be written: {found}") from error


def storage(array: xr.DataArray, names: Sequence[str] | None, writing: Writing) -> dict[str, Any]:
    """Return how an array is stored: as it was where the Zarr format is the same, or as told."""
    said = array.encoding
    told = writing.layout if names is not None else Layout()
    chunks = told.chunks_of(array, said.get("chunks"))
    same = ("serializer" in said) == (writing.zarr_format == 3) and said.get("dtype") == array.dtype
    options: dict[str, Any] = {"zarr_format": writing.zarr_format, "chunks": chunks}
    if same:
        options |= {key: said[key] for key in _REPEATED if key in said}
    if told.compressor is not None or not same:
        options |= {"compressors": told.compressors(writing.zarr_format)}
    if writing.zarr_format == 2:
        return options | {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    shards = told.shards_of(array, chunks, said.get("shards"))
    if shards is not None:
        options["shards"] = shards
    return options | {"dimension_names": names}


def blocks(
    shape: Sequence[int], chunks: Sequence[int], itemsize: int
) -> Iterator[tuple[slice, ...]]:
    """Yield regions of whole chunks that cover an array, each as large as is written at once."""
    sizes = [min(chunk, max(size, 1)) for chunk, size in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = _BLOCK_BYTES // max(1, math.prod(sizes) * itemsize)
        times = max(1, min(room, -(-shape[axis] // sizes[axis])))
        sizes[axis] *= times
    starts = (range(0, size, step) for size, step in zip(shape, sizes, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(at, min(at + step, n)) for at, step, n in zip(corner, sizes, shape, strict=True)
        )
