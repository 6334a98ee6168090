"""A part of a stored array with its axes in another order, as xarray indexes it lazily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.lazy import lazy


class Turned(BackendArray):
    """A part of an array of zarr.

    Parameters
    ----------
    array
        All of it.
    box
        What of each of its axes is wanted.
    order
        The number of the stored axis that each axis is. Of axes that are left out, the first of
        what is wanted counts.
    """

    def __init__(self, array: zarr.Array[Any], box: Sequence[range], order: Sequence[int]) -> None:
        self._array, self._box, self._order = array, tuple(box), tuple(order)
        self.shape = tuple(len(box[i]) for i in order)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        blocks = array.shards or array.chunks
        self.blocks = tuple(min(blocks[i], max(len(box[i]), 1)) for i in order)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        where: list[int | slice] = [part.start for part in self._box]
        for axis, part in zip(self._order, key, strict=True):
            if isinstance(part, slice):
                taken = self._box[axis][part]
                where[axis] = slice(taken.start, taken.stop, taken.step)
            else:
                where[axis] = self._box[axis][part]
        left = [axis for axis in self._order if isinstance(where[axis], slice)]
        stored = lazy(self._array)[indexing.BasicIndexer(tuple(where))]
        found = np.asarray(stored.get_duck_array(), self.dtype)
        return found.transpose([sorted(left).index(axis) for axis in left])
