"""Where pictures lie in the world: two linear functions of the pixel, as canvases take them."""

from __future__ import annotations

import math
from typing import NamedTuple


class Affine(NamedTuple):
    """``x = a * i + c * j + e`` and ``y = b * i + d * j + f``, as of a canvas's setTransform.

    ``i`` counts columns and ``j`` rows; (0, 0) is the outer corner of the first pixel, so that its
    centre is (0.5, 0.5).

    Examples
    --------
    >>> pixels = Affine(0.5, 0.0, 0.0, 0.25, 10.0, 20.0)
    >>> pixels.apply(2, 4), pixels.inverse().apply(11.0, 21.0)
    ((11.0, 21.0), (2.0, 4.0))
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def apply(self, i: float, j: float) -> tuple[float, float]:
        """Return the point of a place in the picture."""
        return self.a * i + self.c * j + self.e, self.b * i + self.d * j + self.f

    def after(self, inner: Affine) -> Affine:
        """Return what does ``inner`` first and then this.

        Examples
        --------
        >>> moved = Affine(1.0, 0.0, 0.0, 1.0, 3.0, 4.0)
        >>> Affine(2.0, 0.0, 0.0, 2.0, 0.0, 0.0).after(moved).apply(1, 1)
        (8.0, 10.0)
        """
        a, b, c, d, e, f = inner
        return Affine(
            self.a * a + self.c * b,
            self.b * a + self.d * b,
            self.a * c + self.c * d,
            self.b * c + self.d * d,
            *self.apply(e, f),
        )

    def inverse(self) -> Affine:
        """Return the way back from points to places in the picture."""
        by = 1 / (self.a * self.d - self.b * self.c)
        a, b, c, d = self.d * by, -self.b * by, -self.c * by, self.a * by
        return Affine(a, b, c, d, -(a * self.e + c * self.f), -(b * self.e + d * self.f))

    @property
    def lengths(self) -> tuple[float, float]:
        """How long a pixel is in the world: along a row, and along a column."""
        return math.hypot(self.a, self.b), math.hypot(self.c, self.d)

    @property
    def is_upright(self) -> bool:
        """Whether rows and columns lie along the axes of the world."""
        along_row, along_column = self.lengths
        return abs(self.b) <= 1e-9 * along_row and abs(self.c) <= 1e-9 * along_column

    def bounds(self, left: float, top: float, right: float, bottom: float) -> Bounds:
        """Return the smallest upright rectangle around the picture of a rectangle.

        Examples
        --------
        >>> Affine(1.0, 0.0, 0.0, -1.0, 0.0, 0.0).bounds(0, 0, 2, 3)
        (0.0, -3.0, 2.0, 0.0)
        """
        points = [self.apply(i, j) for i in (left, right) for j in (top, bottom)]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return min(xs), min(ys), max(xs), max(ys)


Bounds = tuple[float, float, float, float]
"""Left, top, right and bottom: the top is the smaller number."""
