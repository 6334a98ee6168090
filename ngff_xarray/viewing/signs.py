"""Short texts drawn into pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INK, _SHADOW = (235, 235, 235), (0, 0, 0)
_LARGEST = 200


@dataclass(frozen=True)
class Sign:
    """A text in a picture.

    Parameters
    ----------
    text
        What it says.
    at
        Column and row, in pixels.
    size
        Of the letters, in pixels.
    anchor
        Which point of the text is there: ``"mm"`` its middle, ``"la"`` its upper left corner.
    """

    text: str
    at: tuple[float, float]
    size: float
    anchor: str


def draw_signs(pixels: NDArray[np.uint8], signs: Sequence[Sign]) -> NDArray[np.uint8]:
    """Return a picture (y, x, 3) with texts drawn over it.

    Examples
    --------
    >>> dark = np.zeros((20, 20, 3), np.uint8)
    >>> bool(draw_signs(dark, [Sign("A", (10, 10), 12, "mm")]).any()), bool(dark.any())
    (True, False)
    """
    if not signs:
        return pixels
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for sign in signs:
        font = _font(max(5, min(round(sign.size), _LARGEST)))
        draw.text(
            sign.at,
            sign.text,
            _INK,
            font,
            anchor=sign.anchor,
            stroke_width=1 if sign.anchor == "la" else 0,
            stroke_fill=_SHADOW,
        )
    return np.asarray(picture)


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
