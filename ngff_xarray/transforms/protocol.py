"""What every transformation can do, and the checks that all of them share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngff_xarray.errors import TransformationError

Points = NDArray[np.float64]


class Transformation(Protocol):
    """What every transformation can do."""

    def apply(self, points: ArrayLike) -> Points:
        """Return the transformed points, shape ``(..., ndim_out)``."""
        ...

    def inverse(self) -> Transformation:
        """Return the transformation that leads back."""
        ...

    def ndim_out(self, ndim: int) -> int:
        """Return the number of axes that points of ``ndim`` axes have afterwards."""
        ...

    def dependence(self, ndim: int) -> NDArray[np.bool_]:
        """Return which outputs depend on which inputs, shape ``(ndim_out, ndim)``."""
        ...


def fitting(transformation: Transformation, points: ArrayLike) -> Points:
    """Return points as floats, once it is known that the transformation takes them.

    Raises
    ------
    TransformationError
        If the points have another number of axes, or none at all.
    """
    found = np.asarray(points, dtype=np.float64)
    if found.ndim == 0:
        raise TransformationError("expected points of shape (..., ndim), found a single number")
    transformation.ndim_out(found.shape[-1])
    return found


def expect_axes(transformation: Transformation, expected: int, found: int) -> int:
    """Return the number of axes, which must be the expected one.

    Raises
    ------
    TransformationError
        If it is another.
    """
    if found != expected:
        name = type(transformation).__name__
        raise TransformationError(f"{name} takes points of {expected} axes, found {found}")
    return found
