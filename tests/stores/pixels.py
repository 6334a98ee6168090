"""Pixels to fill example images with, and their coarser levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

N_OBJECTS = 5

_INTEGER_TOP = 4000


def draw_pixels(
    shape: Sequence[int], space: Sequence[int], dtype: np.dtype[Any], seed: int
) -> Array:
    """Blobs on a ramp with noise, of another brightness in each time point and channel."""
    rng = np.random.default_rng([seed, 1])
    distances = _squared_distances(shape, space, seed)
    blobs = np.exp(-distances / (2 * _radius(shape, space) ** 2)).sum(axis=0)
    ramp = np.indices(shape, sparse=True)[space[-1]] / shape[space[-1]]
    gain = rng.uniform(0.4, 1, [1 if dim in space else n for dim, n in enumerate(shape)])
    drawn: Array = gain * (blobs + 0.2 * ramp) + rng.uniform(0, 0.1, shape)
    drawn /= drawn.max()
    if dtype.kind not in "iu":
        return drawn.astype(dtype)
    return np.rint(drawn * min(_INTEGER_TOP, np.iinfo(dtype).max)).astype(dtype)


def draw_objects(shape: Sequence[int], space: Sequence[int], seed: int) -> Array:
    """Numbered discs around the blobs of `draw_pixels` with the same seed."""
    distances = _squared_distances(shape, space, seed)
    nearest = distances.argmin(axis=0) + 1
    discs = np.where(distances.min(axis=0) <= _radius(shape, space) ** 2, nearest, 0)
    return np.broadcast_to(discs, shape).copy()


def pyramid(
    data: Array, dims: Sequence[int], levels: int, halve: Callable[[Array, Sequence[int]], Array]
) -> list[Array]:
    """Levels of which each is the one before it, halved along `dims`."""
    levels_so_far = [data]
    for _ in range(levels - 1):
        levels_so_far.append(halve(levels_so_far[-1], dims))
    return levels_so_far


def halve_mean(data: Array, dims: Sequence[int]) -> Array:
    """Mean of blocks of 2; a block that reaches over the edge is the mean of what it has."""
    mean = data.astype(float)
    for dim in dims:
        odd = [(0, n % 2 if dim == other else 0) for other, n in enumerate(mean.shape)]
        pairs = np.moveaxis(np.pad(mean, odd, mode="edge"), dim, 0)
        mean = np.moveaxis((pairs[::2] + pairs[1::2]) / 2, 0, dim)
    return np.rint(mean).astype(data.dtype) if data.dtype.kind in "iu" else mean.astype(data.dtype)


def halve_nearest(data: Array, dims: Sequence[int]) -> Array:
    """Every second pixel."""
    return data[tuple(slice(None, None, 2 if dim in dims else 1) for dim in range(data.ndim))]


def _squared_distances(shape: Sequence[int], space: Sequence[int], seed: int) -> Array:
    """Distances to each of the objects: (object, …), size 1 along all that is not space."""
    rng = np.random.default_rng(seed)
    sizes = [shape[dim] for dim in space]
    n_objects = min(N_OBJECTS, int(np.prod(sizes)))
    places = rng.choice(int(np.prod(sizes)), n_objects, replace=False)
    centres = np.stack(np.unravel_index(places, sizes), axis=-1)
    indices = np.indices(shape, sparse=True)
    grids = [indices[dim] for dim in space]
    return np.stack(
        [
            sum((grid - c) ** 2 for grid, c in zip(grids, centre, strict=True))
            for centre in centres.tolist()
        ]
    )


def _radius(shape: Sequence[int], space: Sequence[int]) -> float:
    return max(1.0, min(shape[dim] for dim in space[-2:]) / 8)
