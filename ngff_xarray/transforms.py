"""Coordinate transformations: apply, invert, compose, simplify. Numpy only.

Points are arrays of shape ``(..., ndim)``, one column an axis, in the order of the axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


class Transformation(Protocol):
    """What every transformation can do."""

    def apply(self, points: ArrayLike) -> Points:
        """Return the transformed points, shape ``(..., ndim)``."""
        ...

    def inverse(self) -> Transformation:
        """Return the transformation that leads back."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Leaves every point where it is."""

    def apply(self, points: ArrayLike) -> Points:
        """Return the same points."""
        return np.asarray(points, dtype=np.float64)

    def inverse(self) -> Identity:
        """Return the identity."""
        return self


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplies every axis by its factor."""

    factors: tuple[float, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points * factors``."""
        return np.multiply(points, self.factors, dtype=np.float64)

    def inverse(self) -> Scale:
        """Return the scale by the reciprocals."""
        return Scale(tuple(1 / factor for factor in self.factors))


@dataclass(frozen=True, slots=True)
class Translation:
    """Adds an offset to every axis."""

    offsets: tuple[float, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return ``points + offsets``."""
        return np.add(points, self.offsets, dtype=np.float64)

    def inverse(self) -> Translation:
        """Return the translation by the negated offsets."""
        return Translation(tuple(-offset for offset in self.offsets))


@dataclass(frozen=True, slots=True)
class Sequence:
    """Applies its transformations one after the other, the first one first."""

    transformations: tuple[Transformation, ...]

    def apply(self, points: ArrayLike) -> Points:
        """Return the points after all transformations."""
        result = np.asarray(points, dtype=np.float64)
        for transformation in self.transformations:
            result = transformation.apply(result)
        return result

    def inverse(self) -> Sequence:
        """Return the inverses in reverse order."""
        return Sequence(tuple(t.inverse() for t in reversed(self.transformations)))


def compose(transformations: Iterable[Transformation]) -> Transformation:
    """Return one transformation that applies all of them in order.

    Examples
    --------
    >>> dataset = [Scale((0.25,)), Translation((20.0,))]
    >>> world = compose([*dataset, Scale((2.0,)), Translation((100.0,))])
    >>> world.apply([[0.0], [1.0]]).ravel()
    array([140. , 140.5])
    """
    parts = tuple(transformations)
    return parts[0] if len(parts) == 1 else Sequence(parts)


def scale_and_translation(
    transformation: Transformation, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scale and the translation (applied after it) that say the same.

    Parameters
    ----------
    transformation
        Identities, scales, translations and sequences of them.
    ndim
        The number of axes.

    Returns
    -------
    scale, translation
        One number an axis each.

    Raises
    ------
    TypeError
        If the transformation is more than a scale and a translation.

    Examples
    --------
    >>> scale_and_translation(Sequence((Translation((1.0,)), Scale((2.0,)))), 1)
    ((2.0,), (2.0,))
    """
    match transformation:
        case Identity():
            return (1.0,) * ndim, (0.0,) * ndim
        case Scale(factors):
            return factors, (0.0,) * ndim
        case Translation(offsets):
            return (1.0,) * ndim, offsets
        case Sequence(parts):
            scale, translation = (1.0,) * ndim, (0.0,) * ndim
            for part in parts:
                factors, offsets = scale_and_translation(part, ndim)
                scale = tuple(f * s for f, s in zip(factors, scale, strict=True))
                translation = tuple(
                    f * t + o for f, t, o in zip(factors, translation, offsets, strict=True)
                )
            return scale, translation
    raise TypeError(f"{type(transformation).__name__} is not a scale and a translation")
