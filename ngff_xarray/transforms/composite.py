"""Transformations made of others: one after the other, there and back, axes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngff_xarray.errors import TransformationError
from ngff_xarray.transforms.protocol import Points, Transformation, fitting


@dataclass(frozen=True, slots=True)
class Sequence:
    """Applies its transformations one after the other, the first one first."""

    transformations: tuple[Transformation, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return the points after all transformations."""
        result = fitting(self, points)
        for transformation in self.transformations:
            result = transformation.apply(result)
        return result

    def inverse(self) -> Sequence:
        """Return the inverses in reverse order."""
        return Sequence(tuple(t.inverse() for t in reversed(self.transformations)))

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes after all transformations."""
        for transformation in self.transformations:
            ndim = transformation.ndim_out(ndim)
        return ndim

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return which outputs depend on which inputs, through all transformations."""
        result = np.eye(ndim, dtype=np.bool_)
        for transformation in self.transformations:
            result = transformation.dependence(len(result)) @ result
        return result


@dataclass(frozen=True, slots=True)
class Bijection:
    """Applies ``forward``; its inverse is known, and not computed."""

    forward: Transformation
    backward: Transformation

    def apply(self, points: ArrayLike) -> Points:
        """Return the points after ``forward``."""
        return self.forward.apply(fitting(self, points))

    def inverse(self) -> Bijection:
        """Return the bijection with the two exchanged."""
        return Bijection(self.backward, self.forward)

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes after ``forward``; ``backward`` must lead back to ``ndim``."""
        result = self.forward.ndim_out(ndim)
        back = self.backward.ndim_out(result)
        if back != ndim:
            raise TransformationError(
                f"Bijection leads from {ndim} to {result} axes, and back to {back}"
            )
        return result

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return which outputs of ``forward`` depend on which inputs."""
        self.ndim_out(ndim)
        return self.forward.dependence(ndim)


@dataclass(frozen=True, slots=True)
class Part:
    """One transformation of a `ByDimension`, the axes that it takes, and those that it gives."""

    transformation: Transformation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ByDimension:
    """Applies transformations to some of the axes each.

    Parameters
    ----------
    parts
        Together they must give every output axis once. They may share inputs and leave some out.

    Examples
    --------
    >>> from ngff_xarray.transforms import Scale, Translation
    >>> parts = Part(Scale((2.0,)), (2,), (0,)), Part(Translation((5.0,)), (0,), (1,))
    >>> ByDimension(parts).apply([10, 20, 30])
    array([60., 15.])
    """

    parts: tuple[Part, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return the outputs of all parts, in their places."""
        found = fitting(self, points)
        result = np.empty((*found.shape[:-1], self.ndim_out(found.shape[-1])))
        for part in self.parts:
            inputs = found[..., list(part.inputs)]
            result[..., list(part.outputs)] = part.transformation.apply(inputs)
        return result

    def inverse(self) -> ByDimension:
        """Return the inverse of every part, with its inputs and outputs exchanged.

        Raises
        ------
        TransformationError
            If not every input goes into exactly one part, or a part has no inverse.
        """
        inputs = sorted(axis for part in self.parts for axis in part.inputs)
        if inputs != list(range(len(inputs))):
            raise TransformationError(
                f"ByDimension has no inverse: expected every input axis once, found {inputs}"
            )
        self.ndim_out(len(inputs))
        return ByDimension(
            tuple(
                Part(part.transformation.inverse(), part.outputs, part.inputs)
                for part in self.parts
            )
        )

    def ndim_out(self, ndim: int) -> int:
        """Return the number of outputs of all parts, each of which must be given once."""
        for part in self.parts:
            if not all(0 <= axis < ndim for axis in part.inputs):
                raise TransformationError(
                    f"ByDimension takes input axes {list(part.inputs)}, found points of {ndim} axes"
                )
            given = part.transformation.ndim_out(len(part.inputs))
            if given != len(part.outputs):
                raise TransformationError(
                    f"ByDimension expects {given} axes from a part, found {list(part.outputs)}"
                )
        outputs = sorted(axis for part in self.parts for axis in part.outputs)
        if outputs != list(range(len(outputs))):
            raise TransformationError(
                f"ByDimension expects every output axis once, found {outputs}"
            )
        return len(outputs)

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return which outputs depend on which inputs, part by part."""
        result = np.zeros((self.ndim_out(ndim), ndim), dtype=np.bool_)
        for part in self.parts:
            inner = part.transformation.dependence(len(part.inputs))
            for output, depends in zip(part.outputs, inner, strict=True):
                result[output, np.array(part.inputs, dtype=np.intp)[depends]] = True
        return result
