"""A grid of vectors, interpolated between its nodes, in memory or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.errors import TransformationError
from ngff_xarray.transforms.protocol import Points, Transformation

Interpolation = Literal["nearest", "linear", "cubic"]

# the nodes that points lie between along one axis: their indices, and how much each counts
_Taps = list[tuple[NDArray[np.intp], NDArray[np.float64]]]


class Values(Protocol):
    """An array, in memory or not: it has a shape, and basic slices of it become numpy arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        ...

    def __getitem__(self, key: tuple[slice, ...], /) -> Any:
        """Return what `numpy.asarray` makes a part of the array."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One vector at every node of a regular grid. Two fields are equal if they are the same object.

    Points outside the grid take the value of its nearest edge. A lookup reads the box of nodes
    that its points lie in, whole: keep points together that stand together.

    Parameters
    ----------
    values
        The vectors, with one axis for their components and one for each of the grid.
    vector_axis
        Which axis of ``values`` holds the components.
    to_grid
        From points to indices of the grid.
    interpolation
        ``"nearest"``, ``"linear"`` (multilinear) or ``"cubic"``: a Catmull-Rom spline, which goes
        through the values at the nodes, and needs no others than the four along every axis.

    Examples
    --------
    >>> from ngff_xarray.transforms import Identity
    >>> field = Field(np.array([[0.0, 1.0, 4.0]]), 0, Identity())
    >>> field.at(np.array([[0.5], [1.5], [9.0]])).ravel()
    array([0.5, 2.5, 4. ])
    """

    values: Values
    vector_axis: int
    to_grid: Transformation
    interpolation: Interpolation = "linear"

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if not -len(shape) <= self.vector_axis < len(shape) or len(shape) < 2 or 0 in shape:
            raise TransformationError(
                "a field takes vectors along one axis and a grid along the others, "
                f"found shape {shape} and vector axis {self.vector_axis}"
            )
        if self.interpolation not in _INTERPOLATIONS:
            raise TransformationError(
                f"a field takes interpolation {list(_INTERPOLATIONS)}, found {self.interpolation!r}"
            )

    @property
    def components(self) -> int:
        """The length of the vectors."""
        return self.values.shape[self.vector_axis]

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """The number of nodes along every axis of the grid."""
        axis = self.vector_axis % len(self.values.shape)
        return tuple(size for i, size in enumerate(self.values.shape) if i != axis)

    def check(self, ndim: int) -> None:
        """Raise a `TransformationError` if points of ``ndim`` axes do not lead to the grid."""
        found, expected = self.to_grid.ndim_out(ndim), len(self.grid_shape)
        if found != expected:
            raise TransformationError(
                f"a field on a grid of {expected} axes takes as many indices, found {found}"
            )

    def uses(self, ndim: int) -> NDArray[np.bool_]:
        """Return which of ``ndim`` inputs the vectors depend on: an axis of one node says none."""
        self.check(ndim)
        varies = np.greater(self.grid_shape, 1)
        result: NDArray[np.bool_] = self.to_grid.dependence(ndim)[varies].any(axis=0)
        return result

    def at(self, points: Points) -> Points:
        """Return the vectors at points, shape ``(..., components)``."""
        self.check(points.shape[-1])
        indices = self.to_grid.apply(points)
        found = self.sample(indices.reshape(-1, indices.shape[-1]))
        return found.reshape(*points.shape[:-1], self.components)

    def sample(self, indices: Points) -> Points:
        """Return the vectors at fractional indices of the grid, of shape ``(number, grid axes)``.

        NaN in an index, along an axis of more than one node, gives NaN.
        """
        result = np.zeros((len(indices), self.components))
        if not len(indices):
            return result
        axes = range(len(self.grid_shape))
        taps = [self._taps(indices[:, axis], self.grid_shape[axis]) for axis in axes]
        flat, taps = self._read(taps)
        for corner in itertools.product(*taps):
            index = np.sum([index for index, _ in corner], axis=0)
            weight = np.prod([weight for _, weight in corner], axis=0)[:, None]
            with np.errstate(invalid="ignore"):  # 0 times infinity, which does not count
                share = flat[index] * weight
            np.add(result, share, out=result, where=weight != 0)
        varies = np.greater(self.grid_shape, 1)
        result[np.isnan(indices[:, varies]).any(axis=1)] = np.nan
        return result

    def _taps(self, index: NDArray[np.float64], size: int) -> _Taps:
        inside = np.clip(np.nan_to_num(index, nan=0.0), 0, size - 1)
        if size == 1:
            return _nearest(inside, size)
        return _INTERPOLATIONS[self.interpolation](inside, size)

    def _read(self, taps: list[_Taps]) -> tuple[NDArray[Any], list[_Taps]]:
        """Return the vectors of the box that holds all taps, in one row, and the taps in it."""
        axis = self.vector_axis % len(self.values.shape)
        starts = [min(int(np.min(index)) for index, _ in along) for along in taps]
        stops = [max(int(np.max(index)) for index, _ in along) + 1 for along in taps]
        key = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
        key.insert(axis, slice(0, self.components))
        block = np.moveaxis(np.asarray(self.values[tuple(key)]), axis, -1)
        strides = [math.prod(block.shape[i + 1 : -1]) for i in range(len(taps))]
        moved = [
            [((index - start) * stride, weight) for index, weight in along]
            for along, start, stride in zip(taps, starts, strides, strict=True)
        ]
        return block.reshape(-1, self.components), moved


def _nearest(index: NDArray[np.float64], size: int) -> _Taps:
    return [(np.floor(index + 0.5).astype(np.intp), np.ones(len(index)))]


def _linear(index: NDArray[np.float64], size: int) -> _Taps:
    first = np.minimum(index.astype(np.intp), size - 2)
    beyond = index - first
    return [(first, 1 - beyond), (first + 1, beyond)]


def _cubic(index: NDArray[np.float64], size: int) -> _Taps:
    """Return the taps of a Catmull-Rom spline, which goes on straight before and after the grid."""
    first = np.minimum(index.astype(np.intp), size - 2)
    f = index - first
    weights = np.array(
        [
            ((2 - f) * f - 1) * f / 2,
            ((3 * f - 5) * f * f + 2) / 2,
            ((4 - 3 * f) * f + 1) * f / 2,
            (f - 1) * f * f / 2,
        ]
    )
    before, after = np.where(first == 0, weights[0], 0), np.where(first == size - 2, weights[3], 0)
    weights += [-before, 2 * before - after, 2 * after - before, -after]
    return [(np.clip(first + i - 1, 0, size - 1), weight) for i, weight in enumerate(weights)]


_INTERPOLATIONS: dict[str, Callable[[NDArray[np.float64], int], _Taps]] = {
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
}


class Remembered:
    """An array that keeps the part it was asked for: many small lookups read it once.

    The part grows, by more than is asked for, when a lookup leaves it.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._starts = [0] * len(values.shape)
        self._block: NDArray[Any] = np.empty([0] * len(values.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        return self._values.shape

    def __getitem__(self, key: tuple[slice, ...], /) -> NDArray[Any]:
        stops = np.add(self._starts, self._block.shape)
        if not all(
            start <= part.start and part.stop <= stop
            for start, part, stop in zip(self._starts, key, stops, strict=True)
        ):
            self._grow(key)
        return self._block[
            tuple(
                slice(part.start - start, part.stop - start)
                for part, start in zip(key, self._starts, strict=True)
            )
        ]

    def _grow(self, key: tuple[slice, ...]) -> None:
        wanted = []
        for part, start, held, size in zip(
            key, self._starts, self._block.shape, self.shape, strict=True
        ):
            first = min(part.start, start) if held else part.start
            last = max(part.stop, start + held) if held else part.stop
            margin = 2 + (last - first) // 8
            wanted.append(slice(max(first - margin, 0), min(last + margin, size)))
        self._starts = [part.start for part in wanted]
        self._block = np.asarray(self._values[tuple(wanted)])
