"""Transformations stored as a grid of vectors, and their inverses, which have to be searched."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngff_xarray.errors import TransformationError
from ngff_xarray.transforms import newton
from ngff_xarray.transforms.grid import Field, Remembered
from ngff_xarray.transforms.protocol import Points, Transformation, expect_axes, fitting

_NODES = 2_000  # how many a search compares with its goal, to start from the nearest
_AT_ONCE = 1_000_000  # distances


@dataclass(frozen=True, slots=True)
class Displacements:
    """Moves every point by the vector that a field has there.

    Examples
    --------
    >>> from ngff_xarray.transforms import Scale
    >>> field = Field(np.array([[0.0, 10.0]]), 0, Scale((0.5,)))
    >>> Displacements(field).apply([[0.0], [1.0], [2.0]]).ravel()
    array([ 0.,  6., 12.])
    """

    field: Field

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points + field.at(points)``."""
        found = fitting(self, points)
        return found + self.field.at(found)

    def inverse(self) -> NumericInverse:
        """Return the inverse, which searches the points.

        Raises
        ------
        TransformationError
            If nothing leads from the field's grid back to points.
        """
        self._extent()
        return NumericInverse(self)

    def ndim_out(self, ndim: int) -> int:
        """Return the number of components, which ``ndim`` must be."""
        expect_axes(self, self.field.components, ndim)
        self.field.check(ndim)
        return ndim

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every axis depends on itself, and on all that the field is looked up by."""
        self.ndim_out(ndim)
        return np.eye(ndim, dtype=np.bool_) | self.field.uses(ndim)

    def solve(self, targets: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Return the points that are moved to the targets, and which were found.

        The displacement is what is searched: its digits do not suffer from a far origin.
        """
        extent = self._extent()
        field = dataclasses.replace(self.field, values=Remembered(self.field.values))

        def residual(shift: Points, goals: Points) -> Points:
            return shift - field.at(goals - shift * extent) / extent

        free = np.full(len(extent), np.inf)
        start = field.at(targets) / extent
        shift, solved = newton.solve(residual, targets, start, -free, free)
        solved |= np.isnan(start).any(axis=1)
        (left,) = np.nonzero(~solved)
        if len(left):
            nodes = self.field.to_grid.inverse().apply(_nodes(field))
            near = _nearest((nodes + field.at(nodes)) / extent, targets[left] / extent)
            start = (targets[left] - nodes[near]) / extent
            found = newton.solve(residual, targets[left], start, -free, free)
            shift[left], solved[left] = found
        return targets - shift * extent, solved

    def _extent(self) -> NDArray[np.float64]:
        """Return the size of the grid along every axis of the points."""
        ends = [(-0.5, size - 0.5) for size in self.field.grid_shape]
        corners = self.field.to_grid.inverse().apply(list(itertools.product(*ends)))
        self.ndim_out(corners.shape[-1])
        return _sizes(np.ptp(corners, axis=0))


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Replaces every point by the vector that a field has there.

    Examples
    --------
    >>> from ngff_xarray.transforms import Scale
    >>> field = Field(np.array([[0.0, 10.0], [0.0, -1.0]]), 0, Scale((0.5,)))
    >>> Coordinates(field).apply([[0.0], [1.0]])
    array([[ 0. ,  0. ], [ 5. , -0.5]])
    """

    field: Field

    def apply(self, points: ArrayLike) -> Points:
        """Return ``field.at(points)``."""
        return self.field.at(fitting(self, points))

    def inverse(self) -> NumericInverse:
        """Return the inverse, which searches the points.

        Raises
        ------
        TransformationError
            If the vectors have not as many components as the grid has axes, if they are not
            interpolated, or if nothing leads from the field's grid back to points.
        """
        ndim, components = len(self.field.grid_shape), self.field.components
        back = self.field.to_grid.inverse().ndim_out(ndim)
        if not ndim == components == back:
            raise TransformationError(
                f"Coordinates have no inverse: they lead from {back} to {components} axes"
            )
        if self.field.interpolation == "nearest":
            raise TransformationError("Coordinates have no inverse where they are not interpolated")
        return NumericInverse(self)

    def ndim_out(self, ndim: int) -> int:
        """Return the number of components."""
        self.field.check(ndim)
        return self.field.components

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return that every output depends on all inputs that the field is looked up by."""
        return np.tile(self.field.uses(ndim), (self.ndim_out(ndim), 1))

    def solve(self, targets: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Return the points that have the targets as their vectors, and which were found.

        It reads the field whole.
        """
        field, low, size = _even(self.field)
        goals = (targets - low) / size
        shape = np.array(field.grid_shape, dtype=np.float64)

        def residual(places: Points, goals: Points) -> Points:
            return field.sample(places * shape) - goals

        indices = np.full(goals.shape, np.nan)
        solved = np.isnan(goals).any(axis=1)
        # a spline goes beyond its nodes: its weights add up to 1, their sizes to 1.25 at most
        reach = newton.TOLERANCE + (1.25 ** len(shape) - 1) / 2 * (field.interpolation == "cubic")
        reachable = (np.abs(goals - 0.5) <= 0.5 + reach).all(axis=1)
        (left,) = np.nonzero(~solved & reachable)
        nodes = _nodes(field)
        start = nodes[_nearest(field.sample(nodes), goals[left])] / shape
        found, solved[left] = newton.solve(
            residual, goals[left], start, 0 * shape, (shape - 1) / shape
        )
        indices[left] = found * shape
        return self.field.to_grid.inverse().apply(indices), solved


def _even(field: Field) -> tuple[Field, NDArray[np.float64], NDArray[np.float64]]:
    """Return a field in memory with values from 0 to 1, and the lowest and the range it had."""
    shape = field.values.shape
    whole = np.asarray(field.values[tuple(slice(0, size) for size in shape)], dtype=np.float64)
    values = np.moveaxis(whole, field.vector_axis, -1)
    known = values[np.isfinite(values).all(axis=-1)]
    if not len(known):
        raise TransformationError("Coordinates have no inverse: all of them are NaN or infinite")
    low, size = known.min(axis=0), _sizes(np.ptp(known, axis=0))
    return dataclasses.replace(field, values=(values - low) / size, vector_axis=-1), low, size


def _sizes(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sizes to divide by: 1 where there is none."""
    return np.where(sizes > 0, sizes, 1.0)


def _nodes(field: Field) -> Points:
    """Return the indices of some nodes, evenly over the grid."""
    along = int(_NODES ** (1 / max(sum(size > 1 for size in field.grid_shape), 1)))
    picked = [np.linspace(0, size - 1, min(size, along)).round() for size in field.grid_shape]
    return np.stack(np.meshgrid(*picked, indexing="ij"), axis=-1).reshape(-1, len(picked))


def _nearest(vectors: Points, goals: Points) -> NDArray[np.intp]:
    """Return which of the vectors is nearest to each goal."""
    (known,) = np.nonzero(np.isfinite(vectors).all(axis=1))
    if not len(known):
        return np.zeros(len(goals), dtype=np.intp)
    centre = vectors[known].mean(axis=0)
    vectors = vectors[known] - centre
    squares = (vectors**2).sum(axis=1)
    result = np.empty(len(goals), dtype=np.intp)
    step = max(_AT_ONCE // len(known), 1)
    for first in range(0, len(goals), step):
        part = goals[first : first + step] - centre
        # the square of the distance, but for what is the same for all vectors
        result[first : first + step] = known[(squares - 2 * part @ vectors.T).argmin(axis=1)]
    return result


@dataclass(frozen=True, slots=True)
class NumericInverse:
    """The inverse of a field's transformation: it searches the points that lead to those given.

    What it finds leads there to within 1e-9 of the field's extent. Where a field folds space, one
    of the points is found; where NaN is given, NaN.
    """

    transformation: Displacements | Coordinates

    def apply(self, points: ArrayLike) -> Points:
        """Return the points that the transformation leads to those given.

        Raises
        ------
        TransformationError
            If some are not found, as those that `Coordinates` do not reach.
        """
        targets = fitting(self, points)
        flat = targets.reshape(-1, targets.shape[-1])
        result, solved = self.transformation.solve(flat)
        if not solved.all():
            name = type(self.transformation).__name__
            raise TransformationError(
                f"the inverse of {name} was not found for {np.sum(~solved)} of {len(flat)} points: "
                "nothing leads there, or the field is too rough"
            )
        return result.reshape(targets.shape)

    def inverse(self) -> Transformation:
        """Return the transformation that this is the inverse of."""
        return self.transformation

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes, which stays the same."""
        return expect_axes(self, self.transformation.field.components, ndim)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return which points depend on which given ones."""
        self.ndim_out(ndim)
        if isinstance(self.transformation, Displacements):
            return self.transformation.dependence(ndim)
        return np.ones((ndim, ndim), dtype=np.bool_)
