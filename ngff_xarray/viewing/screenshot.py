"""A view as one picture, without a browser."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.viewing.affine import Affine
from ngff_xarray.viewing.drawing import Painter
from ngff_xarray.viewing.model import View
from ngff_xarray.viewing.planning import Plan, TileSpec

_MOST_PIXELS = 2**26


def screenshot(plan: Plan, view: View, painter: Painter) -> NDArray[np.uint8]:
    """Return what a canvas shows, (y, x, 3) in device pixels: each that of the nearest tile's.

    Raises
    ------
    ValueError
        If the canvas is too large.
    """
    width, height = (max(1, round(side * view.ratio)) for side in view.size)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"a picture of {width} x {height} pixels is too large")
    out = np.zeros((height, width, 3), np.uint8)
    left, top, _, _ = view.extent
    device = view.scale / view.ratio
    canvas = Affine(device, 0.0, 0.0, device, left, top)
    opacity = dict(zip(plan.order, plan.opacity, strict=True))
    for name in plan.order:
        for tile in plan.tiles:
            if tile.look.layer.name == name:
                _draw(out, tile, painter.draw(tile), canvas, opacity[name])
    return out


def _draw(
    out: NDArray[np.uint8],
    tile: TileSpec,
    pixels: NDArray[np.uint8],
    canvas: Affine,
    opacity: float,
) -> None:
    """Lay a tile over a picture."""
    on_canvas = canvas.inverse()
    left, top, right, bottom = on_canvas.after(tile.matrix).bounds(0, 0, tile.width, tile.height)
    x0, x1 = max(0, math.floor(left)), min(out.shape[1], math.ceil(right))
    y0, y1 = max(0, math.floor(top)), min(out.shape[0], math.ceil(bottom))
    if x0 >= x1 or y0 >= y1:
        return
    back = tile.matrix.inverse().after(canvas)
    x = np.arange(x0, x1) + 0.5
    y = (np.arange(y0, y1) + 0.5)[:, np.newaxis]
    # half a millionth to the right: a centre on the edge of two pixels is of one of them only
    columns = np.floor(back.a * x + back.c * y + back.e + 1e-6).astype(np.intp)
    rows = np.floor(back.b * x + back.d * y + back.f + 1e-6).astype(np.intp)
    inside = (rows >= 0) & (rows < tile.height) & (columns >= 0) & (columns < tile.width)
    region = out[y0:y1, x0:x1]
    found = pixels[rows[inside], columns[inside]]
    alpha = opacity * (found[:, 3:] / 255 if found.shape[1] == 4 else 1.0)
    below = region[inside]
    region[inside] = np.rint(below + (found[:, :3].astype(float) - below) * alpha)
