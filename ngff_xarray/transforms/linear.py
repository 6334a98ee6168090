"""Transformations that multiply, add and reorder: exact, and fast on many points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngff_xarray.errors import TransformationError
from ngff_xarray.transforms.protocol import Points, expect_axes, fitting

Matrix = tuple[tuple[float, ...], ...]

# beyond this condition number, with rows and columns brought to one size, a matrix is singular:
# floats would no longer lead back to within 1e-6
_SINGULAR = 1e9


@dataclass(frozen=True, slots=True)
class Identity:
    """Leaves every point where it is."""

    def apply(self, points: ArrayLike) -> Points:
        """Return the same points, as an array of their own."""
        return fitting(self, points).copy()

    def inverse(self) -> Identity:
        """Return the identity."""
        return self

    def ndim_out(self, ndim: int) -> int:
        """Return the same number: any number of axes fits."""
        return ndim

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every axis depends on itself."""
        return np.eye(ndim, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplies every axis by its factor."""

    factors: tuple[float, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points * factors``."""
        return np.multiply(fitting(self, points), self.factors, dtype=np.float64)

    def inverse(self) -> Scale:
        """Return the scale by the reciprocals.

        Raises
        ------
        TransformationError
            If a factor is 0, or its reciprocal too large for a float.
        """
        if not all(factor and math.isfinite(1 / factor) for factor in self.factors):
            raise TransformationError(f"a scale by {self.factors} has no inverse")
        return Scale(tuple(1 / factor for factor in self.factors))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of factors, which ``ndim`` must be."""
        return expect_axes(self, len(self.factors), ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every axis depends on itself, unless its factor is 0."""
        self.ndim_out(ndim)
        return np.diag(np.not_equal(self.factors, 0))


@dataclass(frozen=True, slots=True)
class Translation:
    """Adds an offset to every axis."""

    offsets: tuple[float, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points + offsets``."""
        return np.add(fitting(self, points), self.offsets, dtype=np.float64)

    def inverse(self) -> Translation:
        """Return the translation by the negated offsets."""
        return Translation(tuple(-offset for offset in self.offsets))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of offsets, which ``ndim`` must be."""
        return expect_axes(self, len(self.offsets), ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every axis depends on itself."""
        return np.eye(self.ndim_out(ndim), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class MapAxis:
    """Reorders the axes: output ``i`` is input ``order[i]``.

    Examples
    --------
    >>> MapAxis((1, 2, 0)).apply([10, 20, 30])
    array([20., 30., 10.])
    """

    order: tuple[int, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points[..., order]``."""
        return fitting(self, points)[..., list(self.order)]

    def inverse(self) -> MapAxis:
        """Return the order that leads back."""
        self.ndim_out(len(self.order))
        return MapAxis(tuple(self.order.index(axis) for axis in range(len(self.order))))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes, each of which must be named once."""
        if sorted(self.order) != list(range(len(self.order))):
            expected = f"0 to {len(self.order) - 1}"
            raise TransformationError(
                f"MapAxis takes each of {expected} once, found {list(self.order)}"
            )
        return expect_axes(self, len(self.order), ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every axis depends on the one it comes from."""
        return np.eye(self.ndim_out(ndim), dtype=np.bool_)[list(self.order)]


@dataclass(frozen=True, slots=True)
class ProjectAxis:
    """Drops axes, then inserts new ones, on which every point stands at 0.

    Parameters
    ----------
    dropped
        Indices of input axes.
    created
        Indices of output axes.

    Examples
    --------
    >>> ProjectAxis(dropped=(0,), created=(1, 2)).apply([10, 20, 30])
    array([20.,  0.,  0., 30.])
    """

    dropped: tuple[int, ...] = ()
    created: tuple[int, ...] = ()

    def apply(self, points: ArrayLike) -> Points:
        """Return the points without the dropped axes and with the created ones."""
        found = fitting(self, points)
        kept, filled = self._places(found.shape[-1])
        result = np.zeros((*found.shape[:-1], self.ndim_out(found.shape[-1])))
        result[..., filled] = found[..., kept]
        return result

    def inverse(self) -> ProjectAxis:
        """Return the transformation that drops the created axes.

        Raises
        ------
        TransformationError
            If this one drops any: nothing tells where the points stood on them.
        """
        if self.dropped:
            axes = list(self.dropped)
            raise TransformationError(f"a projection that drops axes {axes} has no inverse")
        return ProjectAxis(dropped=self.created)

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes that are kept or created."""
        _check_axes("drops input", self.dropped, ndim)
        result = ndim - len(self.dropped) + len(self.created)
        _check_axes("creates output", self.created, result)
        return result

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every kept axis depends on itself, and a created one on none."""
        result = np.zeros((self.ndim_out(ndim), ndim), dtype=np.bool_)
        kept, filled = self._places(ndim)
        result[filled, kept] = True
        return result

    def _places(self, ndim: int) -> tuple[list[int], list[int]]:
        """Return the input axes that are kept, and the output axes that they become."""
        kept = [axis for axis in range(ndim) if axis not in self.dropped]
        filled = [axis for axis in range(self.ndim_out(ndim)) if axis not in self.created]
        return kept, filled


def _check_axes(what: str, axes: tuple[int, ...], ndim: int) -> None:
    if len(set(axes)) != len(axes) or not all(0 <= axis < ndim for axis in axes):
        raise TransformationError(
            f"ProjectAxis {what} axes {list(axes)}, expected different ones of {ndim} axes"
        )


@dataclass(frozen=True, slots=True)
class Affine:
    """Multiplies by a matrix and adds an offset.

    Parameters
    ----------
    matrix
        One row an output: a number for every input, and last the offset.

    Examples
    --------
    >>> Affine(((1, 0.5, 10), (0, 2, 20))).apply([[0, 0], [1, 2]])
    array([[10., 20.], [12., 24.]])
    """

    matrix: Matrix

    def apply(self, points: ArrayLike) -> Points:
        """Return the points times the matrix, plus the offsets."""
        found = fitting(self, points)
        matrix = np.asarray(self.matrix, dtype=np.float64)
        return _multiplied(found, matrix[:, :-1]) + matrix[:, -1]

    def inverse(self) -> Affine:
        """Return the affine transformation that leads back.

        Raises
        ------
        TransformationError
            If the matrix is not square (without the offsets), or singular.
        """
        ndim = len(self.matrix[0]) - 1 if len(self.matrix) else 0
        if self.ndim_out(ndim) != ndim:
            raise TransformationError(
                f"Affine has no inverse: it leads from {ndim} to {len(self.matrix)} axes"
            )
        matrix = np.asarray(self.matrix, dtype=np.float64)
        back = _inverted(matrix[:, :-1], "Affine")
        return Affine(rows(np.column_stack([back, -_multiplied(matrix[:, -1], back)])))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of rows, which must hold ``ndim + 1`` numbers each."""
        return _check_rows("Affine", self.matrix, ndim, ndim + 1)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return where the matrix is not 0."""
        self.ndim_out(ndim)
        return np.not_equal(self.matrix, 0)[:, :-1]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Multiplies by a square matrix, which is a rotation as well as its digits tell.

    Examples
    --------
    >>> Rotation(((0, -1), (1, 0))).apply([2, 3])
    array([-3.,  2.])
    """

    matrix: Matrix

    def apply(self, points: ArrayLike) -> Points:
        """Return the points times the matrix."""
        found = fitting(self, points)
        return _multiplied(found, np.asarray(self.matrix, dtype=np.float64))

    def inverse(self) -> Rotation:
        """Return the inverse of the matrix: rounded digits make the transposed one differ.

        Raises
        ------
        TransformationError
            If the matrix is singular.
        """
        self.ndim_out(len(self.matrix))
        return Rotation(rows(_inverted(np.asarray(self.matrix, dtype=np.float64), "Rotation")))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of rows, which ``ndim`` must be."""
        _check_rows("Rotation", self.matrix, ndim, ndim)
        return expect_axes(self, len(self.matrix), ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return where the matrix is not 0."""
        self.ndim_out(ndim)
        return np.not_equal(self.matrix, 0)


def rows(matrix: NDArray[np.float64]) -> Matrix:
    """Return a matrix as tuples, which can be hashed and compared."""
    return tuple(tuple(row) for row in matrix.tolist())


def _check_rows(name: str, matrix: Matrix, ndim: int, width: int) -> int:
    wrong = next((len(row) for row in matrix if len(row) != width), None if matrix else 0)
    if wrong is not None:
        raise TransformationError(
            f"{name} on {ndim} axes takes rows of {width} numbers, found one of {wrong}"
        )
    return len(matrix)


def _multiplied(points: Points, matrix: NDArray[np.float64]) -> Points:
    """Return ``points @ matrix.T``, without what is multiplied by 0.

    NaN on one axis so stays off the axes that do not depend on it.
    """
    result = np.zeros((*points.shape[:-1], len(matrix)))
    for i, j in zip(*np.nonzero(matrix), strict=True):
        result[..., i] += matrix[i, j] * points[..., j]
    return result


def _inverted(matrix: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return the inverse of a square matrix, whatever the units of its rows and columns are."""
    with np.errstate(all="ignore"):
        by_row = _powers_of_two(np.abs(matrix).max(axis=1))[:, None]
        by_column = _powers_of_two(np.abs(by_row * matrix).max(axis=0))
        even = by_row * matrix * by_column
        if not np.isfinite(even).all() or not np.linalg.cond(even) < _SINGULAR:
            raise TransformationError(
                f"{name} has no inverse: its matrix {rows(matrix)} is singular"
            )
        result: NDArray[np.float64] = by_column[:, None] * np.linalg.inv(even) * by_row.T
    if not np.isfinite(result).all():
        raise TransformationError(f"{name} has no inverse that floats can hold: {rows(matrix)}")
    return result


def _powers_of_two(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factors, exact in floats, that bring each size to between 1/2 and 1."""
    return np.ldexp(1.0, -np.frexp(sizes)[1])
