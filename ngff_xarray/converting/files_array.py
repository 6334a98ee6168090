"""Many files as one array: each holds the pixels at one place along some axes."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.converting.reader import Options
from ngff_xarray.errors import StoreError
from ngff_xarray.text import printable

_OPEN = 32  # files at a time


class FilesArray(BackendArray):
    """The pixels of files, indexed lazily.

    Parameters
    ----------
    files
        The path of each by its place; ``""`` where there is none, which is zeros.
    outer, axes
        The axes along which files are placed, and all, in order.
    sample
        The pixels of one of them, by which the others are to be.
    reader
        Who reads them.
    options
        How.
    """

    def __init__(
        self,
        files: NDArray[np.str_],
        outer: Sequence[str],
        axes: Sequence[str],
        sample: xr.Variable,
        reader: str,
        options: Options,
    ) -> None:
        self._files, self._outer, self._axes = files, tuple(outer), tuple(axes)
        self._inner = tuple(str(dim) for dim in sample.dims)
        self._reader, self._options = reader, options
        self._sizes: Mapping[str, int] = {str(dim): n for dim, n in sample.sizes.items()}
        sizes = {**dict(zip(outer, files.shape, strict=True)), **self._sizes}
        self.shape = tuple(sizes[axis] for axis in axes)
        self.dtype = sample.dtype
        preferred = sample.encoding.get("preferred_chunks", self._sizes)
        self.blocks = tuple(preferred.get(axis, 1) for axis in axes)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, xr.Variable] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        parts = {
            axis: range(size)[part] if isinstance(part, slice) else range(part, part + 1)
            for axis, part, size in zip(self._axes, key, self.shape, strict=True)
        }
        found = np.empty([len(parts[axis]) for axis in self._axes], self.dtype)
        inner = tuple(_cut(parts[axis]) for axis in self._inner)
        for place in itertools.product(*(range(len(parts[axis])) for axis in self._outer)):
            at = dict(zip(self._outer, place, strict=True))
            path = str(self._files[tuple(parts[axis][i] for axis, i in at.items())])
            target = tuple(at.get(axis, slice(None)) for axis in self._axes)
            found[target] = self._opened_file(path)[inner].values if path and found.size else 0
        return found[tuple(0 if isinstance(part, int) else slice(None) for part in key)]

    def _opened_file(self, path: str) -> xr.Variable:
        with self._lock:
            known = self._opened.get(path)
            if known is not None:
                self._opened.move_to_end(path)
                return known
        from ngff_xarray.converting.folder import variable_of

        found = variable_of(path, self._reader, self._options)
        sizes = {str(dim): n for dim, n in found.sizes.items()}
        if sizes != self._sizes or found.dtype != self.dtype:
            expected = f"{dict(self._sizes)}, {self.dtype}"
            raise StoreError(
                f"{printable(path, 500)}: is {sizes}, {found.dtype}; the first file is {expected}"
            )
        with self._lock:
            self._opened[path] = found
            while len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        return found


def _cut(part: range) -> slice:
    stop = part.stop if part.step > 0 or part.stop >= 0 else None
    return slice(part.start, stop, part.step)
