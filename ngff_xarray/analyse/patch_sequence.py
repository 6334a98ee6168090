"""A patch, and patches as a sequence: indexed, shuffled, and read ahead."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray.analyse import places
from ngff_xarray.analyse.patch_source import PatchSource
from ngff_xarray.analyse.places import Starts
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.pyramid.sources import processors
from ngff_xarray.text import printable


@dataclass(frozen=True, eq=False)
class Patch(Mapping[str, Any]):
    """A patch of an image: its pixels, and where they are.

    As a mapping it has ``"image"``, ``"labels"`` if they were asked for, and ``"number"``: arrays
    of numpy, which are its own.

    Parameters
    ----------
    number
        Which of the patches it is, in their order without shuffling.
    start
        Its first pixel along the axes of the level but that of channels; below 0 where it begins
        before the image.
    pixels
        Its pixels: an array of numpy.
    label_pixels
        Those of its labels: an array, arrays by name, or None.
    """

    number: int
    start: tuple[int, ...]
    pixels: NDArray[Any] = field(repr=False)
    label_pixels: NDArray[Any] | Mapping[str, NDArray[Any]] | None = field(repr=False)
    _source: PatchSource = field(repr=False)

    def __getitem__(self, key: str) -> Any:
        if key == "image":
            return self.pixels
        if key == "number":
            return self.number
        if key == "labels" and self.label_pixels is not None:
            return self.label_pixels
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(
            ("image", "number") if self.label_pixels is None else ("image", "labels", "number")
        )

    def __len__(self) -> int:
        return 2 if self.label_pixels is None else 3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.pixels, dtype, copy=copy)

    @property
    def box(self) -> dict[str, int | slice]:
        """Its pixels, as ``isel`` takes them: axis -> slice, or a number along axes that it lacks.

        Padded ones may begin below 0, or end beyond the image.
        """
        box = self._source.box(self.start)
        return {
            dim: side if dim in self._source.sizes else side.start
            for dim, side in zip(self._source.dims, box, strict=True)
        }

    @cached_property
    def _coords(self) -> xr.Dataset:
        return self._source.placed(self.start)

    @property
    def region(self) -> dict[str, Any]:
        """Where it is, as ``tree.ngff.sel(**region)`` takes it, in the units of the axes.

        A slice along each axis, from edge to edge; a position along those that it lacks.
        """
        return self._source.region(self.start)

    @property
    def array(self) -> xr.DataArray:
        """Its pixels, with coordinates."""
        source = self._source
        return xr.DataArray(
            self.pixels, self._coords.coords, source.patch_dims, source.name, dict(source.attrs)
        )

    @property
    def labels(self) -> Any:
        """Its labels, with coordinates: a DataArray, or several by name; None if not asked for."""
        if self.label_pixels is None:
            return None
        if isinstance(self.label_pixels, Mapping):
            return {name: self._labels(each) for name, each in self.label_pixels.items()}
        return self._labels(self.label_pixels)

    def _labels(self, values: NDArray[Any]) -> xr.DataArray:
        channel = self._source.channel_dim
        dims = [dim for dim in self._source.patch_dims if dim != channel]
        coords = {
            name: coordinate
            for name, coordinate in self._coords.coords.items()
            if set(coordinate.dims) <= set(dims) and coordinate.attrs.get("axis_type") != "channel"
        }
        return xr.DataArray(values, coords, dims, "labels")


class Patches(Sequence[Patch]):
    """Patches of an image, in some order: see `patches`.

    ``patches[3]`` is a `Patch`, ``patches[:100]`` are Patches, and iterating reads ahead. They can
    be pickled; each process opens the store by itself.

    Parameters
    ----------
    source, starts
        What they are read of, and where they begin.
    numbers
        Which of them these are, in their order.
    prefetch
        How many are read ahead when one iterates.
    image
        The image; unknown in another process.
    """

    def __init__(
        self,
        source: PatchSource,
        starts: Starts,
        numbers: NDArray[np.int64],
        prefetch: int,
        image: Obj | None,
    ) -> None:
        self.source, self.starts, self._numbers = source, starts, numbers
        self._prefetch, self.image = prefetch, image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "image": None}

    def __repr__(self) -> str:
        sizes = zip(self.source.patch_dims, self.source.patch_shape, strict=True)
        return f"<Patches: {len(self)} of {', '.join(f'{dim}: {n}' for dim, n in sizes)}>"

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Patch: ...
    @overload
    def __getitem__(self, index: slice) -> Patches: ...
    def __getitem__(self, index: int | slice) -> Patch | Patches:
        if isinstance(index, slice):
            return self.only(self._numbers[index])
        return self._read(int(self._numbers[operator.index(index)]))

    def __iter__(self) -> Iterator[Patch]:
        return self._ahead() if self._prefetch else self._one_by_one()

    def shuffled(self, seed: int) -> Patches:
        """Return them in a random order in which chunks are read few times: see `patches`.

        ``for epoch in range(10): for patch in patches.shuffled(epoch): …``
        """
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise SelectionError(f"shuffle: expected a seed, as 0, found {printable(seed, 40)!r}")
        numbers = np.sort(self._numbers)
        source = self.source
        order = places.shuffled(
            source.array, source.sizes, self.starts[numbers], source.memory, int(seed)
        )
        return self.only(numbers[order])

    def sorted(self) -> Patches:
        """Return them in their order without shuffling."""
        return self.only(np.sort(self._numbers))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The number of each patch, in their order."""
        return self._numbers.copy()

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes of a patch."""
        return self.source.patch_dims

    @property
    def shape(self) -> tuple[int, ...]:
        """How many pixels a patch has along them."""
        return self.source.patch_shape

    def only(self, numbers: NDArray[np.int64]) -> Patches:
        """Return those of some numbers, in their order."""
        return Patches(self.source, self.starts, numbers, self._prefetch, self.image)

    def _read(self, number: int) -> Patch:
        start = self.starts[number].tolist()
        return Patch(number, tuple(start), *self.source.read(start), self.source)

    def _one_by_one(self) -> Iterator[Patch]:
        for number in self._numbers.tolist():
            yield self._read(number)

    def _several(self, numbers: list[int]) -> list[Patch]:
        return [self._read(number) for number in numbers]

    def _ahead(self) -> Iterator[Patch]:
        """Yield patches that threads read, a few at a time, until nobody listens."""
        self.source._readers()  # once, and not by each thread
        threads = min(self._prefetch, 2 * processors())
        each = max(1, self._prefetch // (2 * threads))  # a thread is called for several
        running: deque[Future[list[Patch]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="ngff-patches")
        try:
            for first in range(0, len(self), each):
                running.append(
                    pool.submit(self._several, self._numbers[first : first + each].tolist())
                )
                if len(running) * each >= self._prefetch:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
