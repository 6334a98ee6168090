"""An array that some library reads a part of, as xarray indexes it: axes put in order, no steps."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.text import printable
from ngff_xarray.urls import hidden

_OPEN = 16  # files of a process
_opened: OrderedDict[Any, Any] = OrderedDict()
_lock = threading.RLock()


def opened(opener: Callable[..., Any], args: tuple[Any, ...], name: str) -> Any:
    """Return an opened array, which is the same one for all of the process.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """
    key = opener, args
    with _lock:
        found = _opened.get(key)
        if found is None:
            found = _opened[key] = reading(name, lambda: opener(*args))
            while len(_opened) > _OPEN:
                _opened.popitem(last=False)
        else:
            _opened.move_to_end(key)
        return found


def reading(name: str, func: Callable[[], Any]) -> Any:
    """Return what a function reads, and name the file in whatever it raises."""
    try:
        return func()
    except (NgffError, MemoryError):
        raise
    except Exception as error:  # whatever the libraries raise
        said = hidden(str(error))
        text = f"{name}: cannot be read: {type(error).__name__}: {printable(said, 300)}"
        if said != str(error):
            raise StoreError(text) from None  # what a traceback would show holds a token
        raise StoreError(text) from error


class StoredArray(BackendArray):
    """The pixels of an array in a file, indexed lazily; pickled, it is opened again.

    Parameters
    ----------
    opener
        A function of a module, which opens it: what comes back is indexed by slices.
    args
        Its arguments; they tell which array it is.
    order
        The number of the stored axis that each axis is. Axes of length one may be left out.
    name
        The file, in errors.
    lock
        Whether threads read one after another, where the library is not for several.
    """

    def __init__(
        self,
        opener: Callable[..., Any],
        args: tuple[Any, ...],
        order: Sequence[int],
        name: str,
        *,
        lock: bool = False,
    ) -> None:
        self._opener, self._args, self._order, self._name = opener, args, tuple(order), name
        self._is_locked = lock
        stored = opened(opener, args, name)
        self._ndim = len(stored.shape)
        self.shape = tuple(int(stored.shape[i]) for i in order)
        self.dtype = np.dtype(stored.dtype).newbyteorder("=")
        self.blocks = _blocks([int(n) for n in stored.shape], stored, self.dtype, order)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        parts = [
            range(size)[part] if isinstance(part, slice) else range(part, part + 1)
            for part, size in zip(key, self.shape, strict=True)
        ]
        if not all(parts):
            found = np.empty([len(part) for part in parts], self.dtype)
        else:
            box = [slice(0, 1)] * self._ndim
            for axis, part in zip(self._order, parts, strict=True):
                box[axis] = slice(min(part), max(part) + 1)
            array = opened(self._opener, self._args, self._name)
            whole = reading(self._name, lambda: self._taken(array, tuple(box)))
            dropped = tuple(i for i in range(self._ndim) if i not in self._order)
            left = sorted(self._order)
            moved = whole.squeeze(dropped).transpose([left.index(i) for i in self._order])
            found = moved[tuple(slice(None, None, part.step) for part in parts)]
        return np.ascontiguousarray(found, self.dtype)[
            tuple(0 if isinstance(part, int) else slice(None) for part in key)
        ]

    def _taken(self, array: Any, box: tuple[slice, ...]) -> NDArray[Any]:
        if not self._is_locked:
            return np.asarray(array[box])
        with _lock:
            return np.asarray(array[box])


def _blocks(
    shape: Sequence[int], stored: Any, dtype: np.dtype[Any], order: Sequence[int]
) -> tuple[int, ...]:
    """Return what dask reads at a time along each axis: chunks that are stored, or planes."""
    chunks = getattr(stored, "chunks", None)
    if isinstance(chunks, tuple) and len(chunks) == len(shape):
        sizes = [max(int(n), 1) for n in chunks]
    else:
        sizes = [1] * (len(shape) - 2) + list(shape[-2:])
        if list(order) != sorted(order):  # stored x first
            sizes = [*shape[:2], *([1] * (len(shape) - 2))]
    for axis in sorted(range(len(shape)), key=lambda i: sizes[i], reverse=True):
        while math.prod(sizes) * dtype.itemsize < 2**20 and sizes[axis] < shape[axis]:
            sizes[axis] = min(2 * sizes[axis], shape[axis])
    return tuple(sizes[i] for i in order)
