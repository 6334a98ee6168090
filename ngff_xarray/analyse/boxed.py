"""Arrays that xarray indexes lazily, and that know how to make a box of pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ngff_xarray.boxes import Box


class Boxed(BackendArray):
    """Lets xarray index pixels that are made a box at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def box(self, box: Box) -> NDArray[Any]:
        """Return the pixels in a box, which has some."""

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        sides = [
            range(n)[part if isinstance(part, slice) else slice(part, part + 1)]
            for part, n in zip(key, self.shape, strict=True)
        ]
        if all(sides):
            box = tuple(slice(min(side), max(side) + 1) for side in sides)
            found = self.box(box)[tuple(slice(None, None, side.step) for side in sides)]
        else:
            found = np.empty([len(side) for side in sides], self.dtype)
        return found[tuple(0 if isinstance(part, int) else slice(None) for part in key)]
