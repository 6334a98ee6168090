"""The wells of a plate, whose pixels are read many at a time and kept."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import groups, image, lazy, overlay, store
from ngff_xarray.errors import SelectionError, StoreNotFoundError
from ngff_xarray.model import Well
from ngff_xarray.mosaic import MAX_CELLS
from ngff_xarray.overlay import Names
from ngff_xarray.text import printable
from ngff_xarray.viewing.cache import Loader, Lru
from ngff_xarray.viewing.sources import Array, Box
from ngff_xarray.wells import PlateFields, at_a_time, each

Spot = tuple[int, int]
"""The row and the column of a well."""
Pixels = Array | Exception | None
"""What came of a well: why it cannot be read, None if it is not there."""
_Key = tuple[Any, ...]

RETRY = 5.0
"""Seconds after which a well that could not be read is tried again when it is seen."""
RETRY_MISSING = 60.0
"""The same of one that was not there: most never will be."""

_READERS = 16  # wells opened with the plate that are read at a time
_KEPT = 128e6  # bytes of the coarsest planes of wells, and of all others
_WHOLE = 2**26  # bytes: planes of wells that are larger are read in parts


class WellImages:
    """An image of every well, its field or a label image of that, as the first well has it.

    Parameters
    ----------
    first
        That of the first well.
    below
        Where it is below the field; ``""`` if it is the field.
    """

    def __init__(self, first: xr.DataTree, below: str = "") -> None:
        self.first, self.below = first, below
        self.levels = image.levels(first)
        self.paths = [f"{below}/{path}".strip("/") for path in image.level_paths(first)]


@dataclass
class _Mark:
    """Why a well cannot be shown, ``""`` if it is not there, and when that was found."""

    problem: str
    when: float

    def is_due(self) -> bool:
        """Tell whether the well may be tried again."""
        patience = RETRY if self.problem else RETRY_MISSING
        return time.monotonic() - self.when >= patience


class PlateWells:
    """The wells of a plate: where they lie, and their pixels, read when they are needed.

    Wells that could not be read are tried again when they are seen later.

    Parameters
    ----------
    tree
        The plate.
    number
        Which field of every well.
    labels
        The label images of the fields that are to be shown, too: a name, a list of names, or True
        for all that the first well has.

    Raises
    ------
    SelectionError
        If the plate lists no well, or too many; or the first well has no such label image.
    NgffError
        If no well can be read.
    """

    def __init__(self, tree: xr.DataTree, number: int = 0, labels: Names = None) -> None:
        if not isinstance(labels, bool | str | list | tuple | None):
            raise SelectionError("labels: expected names of label images of the fields, or True")
        plate = groups.plate(tree)
        self.rows, self.columns = plate.rows, plate.columns
        count = len(self.rows) * len(self.columns)
        if count > MAX_CELLS:
            raise SelectionError(
                f"{len(self.rows)} rows and {len(self.columns)} columns are {count} places, more "
                f"than {MAX_CELLS}: view a well of it, with .ngff.well(path).ngff.view()"
            )
        self.at: Mapping[Spot, Well] = dict(_placed(plate.wells, self.rows, self.columns))
        self.number = number
        self.told: Callable[[], None] = lambda: None
        """Is called when other wells are marked than before."""
        self.revision = 0
        """Counts how often wells that were marked turned out fine."""
        self._tree = tree
        self._lock = threading.Lock()
        self._marks: dict[str, _Mark] = {}
        self._fields = PlateFields(tree, number)
        self._gates: dict[int, asyncio.Semaphore] = {}
        self._variables: dict[tuple[str, str], xr.Variable] = {}
        caches = [Lru[_Key, Pixels](int(_KEPT), _nbytes) for _ in range(2)]
        self._coarsest, self._finer = (Loader(cache) for cache in caches)
        spots = {well.path: spot for spot, well in self.at.items()}
        path, first = self._fields.first(list(spots), labels=bool(labels))
        self.first = spots[path]
        """The place of the first well that can be opened: the others are taken to be like it."""
        self.field = WellImages(first)
        """The field of every well."""
        self.labels = {
            name: WellImages(tree, f"labels/{name}")
            for name, tree in _labels(first, labels).items()
        }
        """Its label images that are shown."""
        for images in (self.field, *self.labels.values()):
            both = zip(images.paths, images.levels, strict=True)
            self._variables |= {(path, below): level.variable for below, level in both}
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="ngff-wells")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- what cannot be shown --------------------------------------------------------------

    @property
    def problems(self) -> dict[str, str]:
        """Why wells cannot be shown, by path."""
        with self._lock:
            return {path: mark.problem for path, mark in self._marks.items() if mark.problem}

    @property
    def missing(self) -> set[str]:
        """Wells that are listed and not there."""
        with self._lock:
            return {path for path, mark in self._marks.items() if not mark.problem}

    def _known(self, path: str) -> _Mark | None:
        """Return why a well need not be tried now, if so."""
        mark = self._marks.get(path)
        return None if mark is None or mark.is_due() else mark

    def _note(self, found: Mapping[str, Pixels]) -> None:
        """Mark the wells that could not be read, and no longer those that were."""
        now = time.monotonic()
        changed = is_healed = False
        with self._lock:
            for path, pixels in found.items():
                before = self._marks.get(path)
                if before is not None and not before.is_due():
                    continue  # of another plane, perhaps, which must not undo this one's mark
                if isinstance(pixels, np.ndarray):
                    is_healed |= self._marks.pop(path, None) is not None
                else:
                    text = "" if pixels is None else _text(pixels)
                    changed |= before is None or before.problem != text
                    self._marks[path] = _Mark(text, now)
            self.revision += is_healed
        if changed or is_healed:
            self.told()

    # ---- pixels ----------------------------------------------------------------------------

    def read(
        self, images: WellImages, number: int, boxes: Mapping[str, Box], plane: Collection[int]
    ) -> dict[str, Array]:
        """Return the pixels of boxes of some wells, as many as there are of each.

        Wells that cannot be read, or are not there, are left out and marked.

        Parameters
        ----------
        images
            Which image of the wells.
        number
            Its level.
        boxes
            What of each well, by path; they differ along the axes that are drawn only.
        plane
            The numbers of those.
        """
        if not boxes:
            return {}
        level = images.levels[number]
        wholes = {path: _whole(box, plane) for path, box in boxes.items()}
        nbytes = math.prod(_sizes(next(iter(wholes.values())), level.shape)) * level.dtype.itemsize
        if nbytes > _WHOLE:
            return self._told(images, self._fetch(images, number, boxes))
        is_coarsest = number == len(images.levels) - 1
        loader = self._coarsest if is_coarsest else self._finer
        ends = [(part.start, part.stop, part.step) for part in next(iter(wholes.values()))]
        paths: dict[_Key, str] = {(images.below, number, *ends, path): path for path in boxes}

        def load(keys: Sequence[_Key]) -> dict[_Key, Pixels]:
            wanted = {paths[key]: wholes[paths[key]] for key in keys}
            found = self._fetch(images, number, wanted)
            return {key: found[paths[key]] for key in keys}

        planes = loader.fetch(list(paths), load)
        found = self._told(images, {paths[key]: pixels for key, pixels in planes.items()})
        return {
            path: pixels[tuple(b if i in plane else slice(None) for i, b in enumerate(boxes[path]))]
            for path, pixels in found.items()
        }

    def there(self, paths: Sequence[str], number: int) -> list[str]:
        """Return those of some wells whose array of a level can be opened."""

        async def open_(path: str) -> Any:
            return await self._array(self.field, number, path)

        found = store.run(each(paths, open_, self._gate(1)))
        return [
            path
            for path, array in zip(paths, found, strict=True)
            if array is not None and not isinstance(array, Exception)
        ]

    def _told(self, images: WellImages, found: Mapping[str, Pixels]) -> dict[str, Array]:
        if images is self.field:
            self._note(found)
        return {path: pixels for path, pixels in found.items() if isinstance(pixels, np.ndarray)}

    def _gate(self, nbytes: int) -> asyncio.Semaphore:
        count = at_a_time(nbytes)
        return self._gates.setdefault(count, asyncio.Semaphore(count))

    def _fetch(
        self, images: WellImages, number: int, boxes: Mapping[str, Box]
    ) -> dict[str, Pixels]:
        async def pixels(path: str) -> Array | None:
            mark = self._known(path)
            if mark is not None and mark.problem:
                raise SelectionError(mark.problem)
            if mark is not None:
                return None
            return await self._pixels(images, number, path, boxes[path])

        level = images.levels[number]
        box = next(iter(boxes.values()))
        chunk = level.encoding.get("chunks")
        chunk = [int(np.max(n)) for n in chunk] if isinstance(chunk, tuple) else []
        count = max(math.prod(_sizes(box, level.shape)), math.prod(chunk))
        gate = self._gate(count * level.dtype.itemsize)
        return dict(zip(boxes, store.run(each(list(boxes), pixels, gate)), strict=True))

    async def _pixels(self, images: WellImages, number: int, path: str, box: Box) -> Array | None:
        array = await self._array(images, number, path)
        level = images.levels[number]
        if array is None:
            is_there = images is not self.field  # without labels
            return np.empty((0,) * level.ndim, level.dtype) if is_there else None
        if array.ndim != level.ndim:
            raise SelectionError(
                f"has {array.ndim} axes, and the first well {level.ndim}: view it alone"
            )
        if not np.can_cast(array.dtype, level.dtype):
            raise SelectionError(
                f"is {array.dtype}, and the first well {level.dtype}: view it alone"
            )
        if isinstance(array, xr.Variable):
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(self._pool, _computed, array, box)
        else:
            pixels = await lazy.fetch(array, box)
        return pixels.astype(level.dtype, copy=False)

    async def _array(self, images: WellImages, number: int, path: str) -> Any:
        """Return a level of a well, or None: an array of the store, or a variable of the tree."""
        below = images.paths[number]
        known = self._variables.get((path, below))
        if known is not None:
            return known
        if self._fields.is_opened(path):
            known = self._variable(images, number, path)
            if known is not None:
                self._variables[path, below] = known
            return known
        try:
            return await self._fields.array(path, below)
        except StoreNotFoundError:
            if images is self.field:
                raise
            return None  # not every well has labels

    def _variable(self, images: WellImages, number: int, path: str) -> xr.Variable | None:
        """Return a level of a well that was opened with the plate."""
        field: Any = groups.field(self._tree, path, self.number)
        if images.below:
            field = image.label_images(field).get(images.below.removeprefix("labels/"))
        if field is None:
            return None
        arrays, paths = image.levels(field), image.level_paths(field)
        wanted = images.paths[number].removeprefix(images.below).strip("/")
        if wanted not in paths:
            raise StoreNotFoundError(f"there is no array at {wanted!r}")
        return arrays[paths.index(wanted)].variable


def _placed(
    wells: Sequence[Well], rows: Sequence[str], columns: Sequence[str]
) -> Iterator[tuple[Spot, Well]]:
    row = {name: i for i, name in enumerate(rows)}
    column = {name: i for i, name in enumerate(columns)}
    for well in wells:
        if well.row in row and well.column in column:
            yield (row[well.row], column[well.column]), well


def _labels(first: xr.DataTree, labels: Names) -> dict[str, xr.DataTree]:
    """Return the label images of the first well that are meant, by name."""
    known = image.label_images(first)
    return {name: known[name] for name in overlay.label_names(first, labels)}


def _whole(box: Box, plane: Collection[int]) -> Box:
    return tuple(slice(None) if i in plane else part for i, part in enumerate(box))


def _sizes(box: Box, shape: Sequence[int]) -> list[int]:
    return [len(range(*part.indices(n))) for part, n in zip(box, shape, strict=True)]


def _nbytes(pixels: Pixels) -> int:
    """Return how many bytes to keep; of what could not be read more than may be kept."""
    return pixels.nbytes if isinstance(pixels, np.ndarray) else int(_KEPT) + 1


def _computed(variable: xr.Variable, box: Box) -> Array:
    found = variable[tuple(box)].data
    if hasattr(found, "compute"):  # dask: this is a thread of many already
        found = found.compute(scheduler="synchronous")
    return np.asarray(found)


def _text(error: Exception) -> str:
    return printable(" ".join(str(error).split()), 200) or type(error).__name__
