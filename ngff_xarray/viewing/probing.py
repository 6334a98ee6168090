"""What lies at a point, and how the values of a channel are distributed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import units
from ngff_xarray.channels import MAX_CHANNELS
from ngff_xarray.render import Projection
from ngff_xarray.text import printable
from ngff_xarray.viewing.drawing import Painter, Part
from ngff_xarray.viewing.layers import Layer, LayerLevel, World
from ngff_xarray.viewing.model import LayerView, View
from ngff_xarray.viewing.planning import resolution

_CHEAP_CHUNK = 2**24  # bytes of a chunk that is read for the value of one pixel


def probe(painter: Painter, world: World, view: View, x: float, y: float) -> dict[str, Any]:
    """Return the message about a point of the world: values by channel, position, label.

    Values are those of the finest level, unless its chunks are very large: then those that are
    seen.
    """
    said: dict[str, Any] = {
        "type": "probe",
        "x": x,
        "y": y,
        "values": [],
        "position": position_text(world, view, x, y),
    }
    many = len(world.layers) > 1
    for layer in world.layers:
        how = next((each for each in view.layers if each.name == layer.name), None)
        if how is None or not how.visible or layer.is_empty:
            continue
        try:
            for name, value in _values(painter, layer, how, view, (x, y)):
                said["values"].append([f"{layer.name} {name}".strip() if many else name, value])
            label = _label(painter, layer, how, view, (x, y))
        except Exception as error:  # the store's, whichever it is
            said["error"] = printable(error, 200)
            continue
        if label is not None:
            said["label"] = str(label)
    return said


def position_text(world: World, view: View, x: float, y: float) -> str:
    """Return a position as people read it.

    Examples
    --------
    >>> import xarray as xr
    >>> from ngff_xarray.viewing.layers import make_world
    >>> from ngff_xarray.viewing.model import home_view
    >>> world = make_world(xr.DataArray(np.zeros((3, 4, 5)), dims=("z", "y", "x")))
    >>> position_text(world, home_view(world), 2.25, 1)
    'x 2.250 px, y 1.000 px, z 1'
    """
    names = []
    for layer in world.layers:
        if layer.scenery is not None:
            name, x, y = layer.scenery.at(x, y)
            names.append(name)
    symbol = units.symbol(world.unit) if world.unit else "px"
    drawn = [
        (axis, f"{to_the_pixel(value, view.scale)} {symbol}")
        for axis, value in ((world.right, x), (world.down, y))
    ]
    place = view.place
    projected = {dim for layer in world.layers for dim in layer.depth} if view.projection else ()
    others = [
        (dim.name, view.projection if dim.name in projected else dim.text(place[dim.name]))
        for dim in world.dims
        if dim.name in place
    ]
    places = (f"{printable(name, 30)} {text}" for name, text in drawn + others)
    return ", ".join([*names, *places])


def to_the_pixel(value: float, scale: float) -> str:
    """Return a position with the digits that pixels of the screen tell apart, as the browser does.

    Examples
    --------
    >>> to_the_pixel(29.3715, 0.02), to_the_pixel(2.5, 1), to_the_pixel(-0.2, 1)
    ('29.37', '3', '0')
    """
    digits = max(0, min(9, math.ceil(-math.log10(scale) - 1e-9)))
    # halves go up, in JavaScript
    exact = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, Context(prec=400))
    return f"{exact:f}".lstrip("-") if exact.is_zero() else f"{exact:f}"


def _values(
    painter: Painter, layer: Layer, how: LayerView, view: View, point: tuple[float, float]
) -> Iterator[tuple[str, str]]:
    if layer.kind == "labels" or not layer.holds(_on_other_axes(layer, view)):
        return
    shown = [channel.name for channel in how.channels if channel.active][:MAX_CHANNELS]
    names = [channel.name for channel in layer.channels]
    level = _level(layer, view)
    part = _pixel(level, view, point)
    if part is None or not shown:
        return
    numbers = [names.index(name) for name in shown]
    place = _on_other_axes(layer, view)
    planes = painter.planes(layer, level, place, part, numbers, view.projection)
    for name, plane in zip(shown, planes, strict=True):
        yield printable(name), number_text(plane[0, 0])


def _label(
    painter: Painter, layer: Layer, how: LayerView, view: View, point: tuple[float, float]
) -> int | None:
    """Return the label at a point: the layer's, or the topmost that is shown over it."""
    shown = {each.name for each in how.labels if each.visible}
    over = [each for each in layer.labels if each.name in shown]
    labels = layer if layer.kind == "labels" else over[-1] if over else None
    if labels is None or labels.is_empty or not labels.holds(_on_other_axes(labels, view)):
        return None
    level = labels.levels[0]
    part = _pixel(level, view, point)
    if part is None:
        return None
    largest: Projection | None = "max" if view.projection else None
    place = _on_other_axes(labels, view)
    (plane,) = painter.planes(labels, level, place, part, [0], largest)
    return int(plane[0, 0])


def _on_other_axes(layer: Layer, view: View) -> Mapping[str, float]:
    projected = layer.depth if view.projection else ()
    return {dim: at for dim, at in view.position if dim not in projected}


def _level(layer: Layer, view: View) -> LayerLevel:
    finest = layer.levels[0]
    depth = math.prod(finest.size(dim) for dim in layer.depth) if view.projection else 1
    chunk = 0 if finest.source.in_memory else finest.source.chunk_nbytes
    if chunk <= _CHEAP_CHUNK and depth == 1:
        return finest
    return layer.levels[resolution(layer, view.scale / view.ratio).level]


def _pixel(level: LayerLevel, view: View, point: tuple[float, float]) -> Part | None:
    """Return the pixel of a level that holds a point of the world."""
    column, row = level.affine(level.indices(view.place)).inverse().apply(*point)
    height, width = level.shape
    if not (0 <= row < height and 0 <= column < width):
        return None
    return Part(int(row), int(row) + 1, int(column), int(column) + 1)


def number_text(value: Any) -> str:
    """Return a pixel's value as text: integers with all their digits."""
    if isinstance(value, np.bool_ | bool):
        return "1" if value else "0"
    if isinstance(value, np.integer | int):
        return str(int(value))
    return f"{float(value):.6g}"


def histogram(
    painter: Painter, layer: Layer, channel: int, bins: int, place: Mapping[str, float] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how often values occur in a channel: counts, and the edges of the bins.

    Bins are at least as wide as the step between whole numbers.
    """
    values = painter.sample(layer, channel, place)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return np.zeros(bins, np.int64), np.linspace(0, 1, bins + 1)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "bui":
        bins = int(min(bins, high - low + 1))
        low, high = low - 0.5, high + 0.5
    if not math.isfinite(high - low):
        low, high = low / 2, high / 2
    # bins must be wider than floats are apart
    apart = float(np.spacing(max(abs(low), abs(high), 1e-300)))
    if high - low < 4 * apart or low == high:
        low, high = low - max(0.5, 2 * apart), high + max(0.5, 2 * apart)
    bins = max(1, int(min(bins, (high - low) / (2 * apart))))
    counts, edges = np.histogram(values.astype(np.float64), bins, (low, high))
    return counts.astype(np.int64), edges
