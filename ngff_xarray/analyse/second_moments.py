"""Second moments of many objects at once, and the ellipses that have the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.analyse.sweeping import slab_sizes
from ngff_xarray.boxes import Box, cut

MEASURES = (
    *("inertia_tensor", "inertia_tensor_eigvals", "axis_major_length", "axis_minor_length"),
    *("eccentricity", "orientation"),
)
"""What `SecondMoments.columns` has, as scikit-image calls it."""


@dataclass(frozen=True)
class SecondMoments:
    """Sums over the pixels of objects, whose indices are counted from where their boxes begin.

    Parameters
    ----------
    pixels
        How many there are, (n,).
    first, second
        The sums of the indices, (axis, n), and of their products, (axis, axis, n): whole numbers,
        exact up to 2**53.
    """

    pixels: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of(
        cls, parts: Iterable[tuple[Box, NDArray[Any]]], lows: NDArray[np.integer[Any]]
    ) -> SecondMoments:
        """Return those of the objects 1, 2, … in a box.

        Parameters
        ----------
        parts
            The box in parts, each with its place in it.
        lows
            Where the box of each object begins in it, (axis, n).

        Examples
        --------
        >>> pixels = np.array([[1, 1, 0], [0, 0, 2]])
        >>> found = SecondMoments.of([((slice(0, 2), slice(0, 3)), pixels)], [[0, 1], [0, 2]])
        >>> found.pixels, found.first[1]
        (array([2., 1.]), array([1., 0.]))
        """
        ndim, n = np.shape(lows)
        lows = np.asarray(lows)
        pixels, first = np.zeros(n), np.zeros((ndim, n))
        second = np.zeros((ndim, ndim, n))
        for place, part in parts:
            for slab in cut([slice(0, size) for size in part.shape], slab_sizes(part.shape)):
                at = np.nonzero(part[slab])
                which = part[slab][at] - 1
                index = [
                    a + (side.start + whole.start - low[which])
                    for a, side, whole, low in zip(at, slab, place, lows, strict=True)
                ]
                pixels += np.bincount(which, minlength=n)
                for i in range(ndim):
                    first[i] += np.bincount(which, index[i], n)
                    for j in range(i, ndim):
                        second[i, j] += np.bincount(which, index[i] * index[j], n)
        return cls(pixels, first, second)

    def columns(self, spacing: Sequence[float]) -> dict[str, NDArray[np.float64]]:
        """Return the measures of objects of two or three dimensions, as scikit-image has them.

        Parameters
        ----------
        spacing
            The size of a pixel along every axis.
        """
        tensor = self._tensor(spacing)
        values = np.clip(np.linalg.eigvalsh(tensor), 0, None)[:, ::-1]
        ndim = len(spacing)
        found = {
            f"inertia_tensor-{i}-{j}": tensor[:, i, j] for i in range(ndim) for j in range(ndim)
        }
        found |= {f"inertia_tensor_eigvals-{i}": values[:, i] for i in range(ndim)}
        if ndim == 2:
            return found | _ellipse(tensor, values)
        l0, l1, l2 = values.T
        major, minor = (np.maximum(10 * each, 0) for each in (l0 + l1 - l2, -l0 + l1 + l2))
        return found | {"axis_major_length": np.sqrt(major), "axis_minor_length": np.sqrt(minor)}

    def _tensor(self, spacing: Sequence[float]) -> NDArray[np.float64]:
        """Return the tensors of inertia of a pixel of each object, (n, axis, axis)."""
        ndim = len(spacing)
        mu = np.empty((self.pixels.size, ndim, ndim))
        for i in range(ndim):
            for j in range(i, ndim):
                apart = self.second[i, j] - self.first[i] * self.first[j] / self.pixels
                mu[:, i, j] = mu[:, j, i] = apart / self.pixels * (spacing[i] * spacing[j])
        tensor: NDArray[np.float64] = -mu
        tensor += np.trace(mu, axis1=1, axis2=2)[:, None, None] * np.eye(ndim)
        return tensor


def _ellipse(
    tensor: NDArray[np.float64], values: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    (l1, l2), (a, b, c) = values.T, (tensor[:, 0, 0], tensor[:, 0, 1], tensor[:, 1, 1])
    share = np.divide(l2, l1, out=np.ones(l1.shape), where=l1 > 0)
    turned = 0.5 * np.arctan2(-2 * b, c - a)
    return {
        "axis_major_length": 4 * np.sqrt(l1),
        "axis_minor_length": 4 * np.sqrt(l2),
        "eccentricity": np.sqrt(1 - share),
        "orientation": np.where(a == c, np.where(b < 0, np.pi / 4, -np.pi / 4), turned),
    }
