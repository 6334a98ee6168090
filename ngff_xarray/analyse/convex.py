"""How many pixels the convex hull of an object has, in three dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 1e-10  # of a pixel, beyond the hull: rounding; as scikit-image has it
_ROOM = 2**17  # facets times rows that are looked at together


def convex_pixels(image: NDArray[np.bool_]) -> int:
    """Return how many pixels lie in the convex hull of those that are set.

    They are those of `skimage.morphology.convex_hull_image`, counted row by row: a facet cuts a row
    once, so that no pixel is held against all of them. 0 where pixels lie in a plane, which have no
    hull.

    Parameters
    ----------
    image
        (z, y, x).

    Examples
    --------
    >>> image = np.zeros((5, 5, 5), bool)
    >>> image[::4, ::4, ::4] = True
    >>> convex_pixels(image)
    125
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners = ConvexHull(_row_ends(image))
        half = np.concatenate([np.eye(3), -np.eye(3)]) / 2  # the faces of a pixel
        points = corners.points[corners.vertices]
        hull = ConvexHull((points[:, None] + half).reshape(-1, 3))
    except QhullError:
        return 0
    return _inside(hull.equations, image.shape)


def _row_ends(image: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first and the last pixel of each row, (n, 3): no other one is a corner."""
    z, y = np.nonzero(image.any(axis=2))
    rows = image[z, y]
    first, last = rows.argmax(axis=1), image.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([z, y, each], axis=1) for each in (first, last)])


def _inside(facets: NDArray[np.float64], shape: tuple[int, ...]) -> int:
    """Return how many pixels of a box lie on the inner side of all facets (n, 4)."""
    rows = np.indices(shape[:2]).reshape(2, -1)
    low, high = np.full(rows.shape[1], -1.0), np.full(rows.shape[1], float(shape[2]))
    step = max(1, _ROOM // rows.shape[1])
    for start in range(0, len(facets), step):
        part = facets[start : start + step]
        room = _NEAR - part[:, :2] @ rows - part[:, 3:]
        slope = part[:, 2:3]
        with np.errstate(divide="ignore", invalid="ignore"):
            at = room / slope
        rises, falls = part[:, 2] > 0, part[:, 2] < 0
        high = np.minimum(high, at[rises].min(axis=0, initial=np.inf))
        low = np.maximum(low, at[falls].max(axis=0, initial=-np.inf))
        is_beyond = (room[~(rises | falls)] <= 0).any(axis=0)
        high[is_beyond] = -np.inf
    counts = np.ceil(high) - np.floor(low) - 1  # between the two, and not on them
    return int(np.maximum(counts, 0).sum())
