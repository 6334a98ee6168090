"""A function that labels blocks -> one label image, in which an object has one number."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.core import indexing

from ngff_xarray.analyse.blocks import Block, Blocks
from ngff_xarray.analyse.boxed import Boxed
from ngff_xarray.analyse.functions import Function, Result
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.stitching import Ids, Numbering, looked_up, numbered, same
from ngff_xarray.analyse.work import Work
from ngff_xarray.boxes import Box, within
from ngff_xarray.lazy import lazy
from ngff_xarray.progress import Bar

_BLOCKS = 64  # whose numbers are kept
_CHUNK = 2**22  # bytes of a chunk of labels of blocks, about


@dataclass(frozen=True)
class Labelling:
    """Labelling an image a block at a time, and finding which objects of blocks are one.

    Parameters
    ----------
    function
        What labels a block with its halo.
    work
        Where the labels of blocks are kept.
    dims
        The axes of the labels, some of the image's.
    dtype
        That of the labels of blocks.
    threshold
        How much of an object two blocks must agree on, as `stitching.same` takes it; None where
        labels are not stitched, and stay as they are.
    """

    function: Function
    work: Work
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    threshold: float | None

    @property
    def blocks(self) -> Blocks:
        """The blocks of the image."""
        return self.function.blocks

    @property
    def _axes(self) -> list[int]:
        """Which axes of the image the labels have."""
        return [self.function.dims.index(dim) for dim in self.dims]

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels of a block along them."""
        return self._of(self.blocks.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the label image."""
        return tuple(self.blocks.shape[axis] for axis in self._axes)

    def begin(self) -> None:
        """Make the array for the labels of blocks: several chunks each, that need less memory."""
        self.work.create(self.shape, self.dtype, _halved(self.size, _CHUNK // self.dtype.itemsize))

    def label(self, number: int) -> None:
        """Label a block, and keep that, and what of it the neighbours see.

        Raises
        ------
        BlockError
            If the function fails, or returns no labels.
        """
        block = self.blocks[number]
        found = self.function.called(block)
        if not isinstance(found, Result) or found.pixels.dtype.kind not in "biu":
            kind = "a table" if not isinstance(found, Result) else str(found.pixels.dtype)
            raise self.function.error(
                block, f"the function returned {kind}, expected labels: integers, 0 for no object"
            )
        pixels = self._without_channels(block, found).pixels
        inner = self._of(block.inner)
        if self.threshold is None:
            if pixels.dtype != self.dtype:
                message = f"the function returned {pixels.dtype}; of the first block {self.dtype}"
                raise self.function.error(block, message)
            self.write(block, pixels[inner])
            self.work.put(number, {})
            return
        labels, count, missing = numbered(pixels, inner)
        core = labels[inner]
        self.write(block, core)
        self.keep(block, labels, count, missing)

    def _without_channels(self, block: Block, found: Result) -> Result:
        channel = self.function.channel_dim or "c"
        if channel in found.dims:
            axis = found.dims.index(channel)
            if found.pixels.shape[axis] != 1:
                raise self.function.error(
                    block,
                    f"the function returned labels of {found.pixels.shape[axis]} channels: "
                    "expected one label image",
                )
            dims = tuple(dim for dim in found.dims if dim != channel)
            found = Result(dims, np.squeeze(found.pixels, axis))
        if found.dims != self.dims:
            raise self.function.error(
                block,
                f"the function returned labels with the axes {', '.join(found.dims)}; of the first "
                f"block they were {', '.join(self.dims)}",
            )
        return found

    def write(self, block: Block, labels: NDArray[Any]) -> None:
        """Write the labels of a block."""
        self._writer().write([side.start for side in self._of(block.core)], labels)

    def keep(
        self, block: Block, labels: NDArray[np.uint32], count: int, missing: NDArray[np.uint32]
    ) -> None:
        """Keep what the neighbours see of a block, whose objects are numbered from 1."""
        record: dict[str, NDArray[Any]] = {"count": np.array(count), "missing": missing}
        is_there = np.ones(count + 1, bool)
        is_there[missing] = False
        for other in self._neighbours(block):
            strip = labels[self._of(_placed(_shared(block, other), block))]
            strip = np.where(looked_up(is_there, strip), strip, np.uint32(0))
            if strip.any():
                record[str(other.number)] = strip
        self.work.put(block.number, record)

    def pairs(self, number: int) -> tuple[int, Ids, Ids]:
        """Return how many objects a block has, and which are the same in blocks after it.

        Returns
        -------
        int, ndarray, ndarray
            The largest number; int64 (n, 4) and (n, 2): pairs and what is missing, as
            `Numbering.of` takes them.
        """
        block = self.blocks[number]
        own = self.work.record(number)
        if own is None or self.threshold is None:
            return 0, np.empty((0, 4), np.int64), np.empty((0, 2), np.int64)
        found = [np.empty((0, 4), np.int64)]
        for other in self._neighbours(block):
            mine = own.get(str(other.number))
            if other.number < number or mine is None:
                continue
            record = self.work.record(other.number)
            theirs = None if record is None else record.get(str(number))
            if theirs is not None:
                pairs = same(mine, theirs, self.threshold)
                here, there = (np.full((len(pairs), 1), n) for n in (number, other.number))
                found.append(np.hstack([here, pairs[:, :1], there, pairs[:, 1:]]))
        missing = own["missing"].astype(np.int64)
        without = np.stack([np.full(missing.size, number), missing], axis=1)
        return int(own["count"][()]), np.concatenate(found), without

    def stitched(self, numbering: Numbering) -> Stitched:
        """Return all labels, by the numbers that objects have in the whole."""
        dtype = np.dtype(np.uint32 if numbering.count < 2**32 else np.uint64)
        axes = self._axes
        size = tuple(self.blocks.size[axis] for axis in axes)
        blocks = Blocks(self.shape, size, (0,) * len(axes), "clip")
        return Stitched(self.work.array(), blocks, numbering, dtype)

    def _of(self, box: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(box[axis] for axis in self._axes)

    def _neighbours(self, block: Block) -> Iterator[Block]:
        """Yield the neighbours in space, but those that see nothing of a block."""
        axes = [axis for axis in self._axes if self.blocks.halo[axis]]
        space = [axis for axis in axes if self.function.is_space(self.function.dims[axis])]
        return self.blocks.neighbours(block, space)

    def _writer(self) -> Any:
        with self.function.lock:
            here = self.function.here
            if "writer" not in here:
                here["writer"] = self.work.writer()
            return here["writer"]


def _halved(size: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return whole parts of a size that have no more pixels, if halving makes some."""
    even = next((axis for axis, n in enumerate(size) if n % 2 == 0), None)
    if math.prod(size) <= most or even is None:
        return size
    return _halved((*size[:even], size[even] // 2, *size[even + 1 :]), most)


def _shared(one: Block, other: Block) -> Box:
    """Return what both of two neighbours see."""
    return tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(one.outer, other.outer, strict=True)
    )


def _placed(box: Box, block: Block) -> Box:
    """Return a box of the image as it lies in a block with its halo."""
    return tuple(
        slice(side.start - o.start + before, side.stop - o.start + before)
        for side, o, (before, _) in zip(box, block.outer, block.pad, strict=True)
    )


def label_block(labelling: Labelling, number: int) -> None:
    """Label a block; for workers."""
    labelling.label(number)


def pairs_of_block(labelling: Labelling, number: int) -> tuple[int, Ids, Ids]:
    """Return how many objects a block has and which others have, too; for workers."""
    return labelling.pairs(number)


def labelled(
    labelling: Labelling,
    crew: Crew,
    bar: Bar,
    failed: Callable[[int, Exception], None],
) -> xr.DataArray:
    """Label all blocks that are not done yet; return the labels of all, lazily indexed.

    Parameters
    ----------
    labelling
        What is done.
    crew
        Who does it.
    bar
        Counts the blocks.
    failed
        Is told of each block of which the function failed; raises, or lets it be without objects.
    """
    count = len(labelling.blocks)
    done = labelling.work.done()
    bar.more(count)
    bar.did(len(done))
    todo = [number for number in range(count) if number not in done]
    for number, error in crew.run(label_block, labelling, todo, bar):
        if isinstance(error, Exception):
            failed(number, error)
    if labelling.threshold is None:
        return _as_array(labelling, lazy(labelling.work.array()))
    counts = np.zeros(count, np.int64)
    pairs, missing = [np.empty((0, 4), np.int64)], [np.empty((0, 2), np.int64)]
    for number, found in crew.run(pairs_of_block, labelling, range(count), Bar()):
        if isinstance(found, Exception):
            raise found
        counts[number], own, without = found
        pairs.append(own)
        missing.append(without)
    numbering = Numbering.of(counts, np.concatenate(pairs), np.concatenate(missing))
    return _as_array(labelling, indexing.LazilyIndexedArray(labelling.stitched(numbering)))


def _as_array(labelling: Labelling, data: Any) -> xr.DataArray:
    """Return labels with the coordinates of their image, to be read a block at a time."""
    dims, size = labelling.dims, labelling.size
    coords = {
        name: coordinate.variable
        for name, coordinate in labelling.function.coords.coords.items()
        if set(coordinate.dims) <= set(dims) and coordinate.attrs.get("axis_type") != "channel"
    }
    found = xr.DataArray(data, coords, dims, "labels")
    found.encoding = {"chunks": size, "preferred_chunks": dict(zip(dims, size, strict=True))}
    return found


class Stitched(Boxed):
    """The labels of all blocks by the numbers of the whole, indexed lazily.

    Parameters
    ----------
    array
        The labels of blocks, each numbered from 1.
    blocks
        Where the blocks are in it.
    numbering
        What their objects are called.
    dtype
        That of the numbers.
    """

    def __init__(
        self,
        array: zarr.Array[Any],
        blocks: Blocks,
        numbering: Numbering,
        dtype: np.dtype[Any],
    ) -> None:
        self._array, self._blocks, self._numbering = array, blocks, numbering
        self.shape, self.dtype = array.shape, dtype
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_kept")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def box(self, box: Box) -> NDArray[Any]:
        """Return the labels in a box."""
        local = np.asarray(self._array[box])
        found = local if local.dtype == self.dtype else np.empty(local.shape, self.dtype)
        for block in self._blocks.within(box):
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(block.core, box, strict=True)
            )
            part = within(both, box)
            looked_up(self._numbers(block.number), local[part], found[part])
        return found

    def _numbers(self, block: int) -> NDArray[Any]:
        with self._lock:
            found = self._kept.pop(block, None)
        if found is None:
            found = self._numbering.numbers(block).astype(self.dtype)
        with self._lock:
            self._kept[block] = found
            while len(self._kept) > _BLOCKS:
                self._kept.popitem(last=False)
        return found
