"""What a view asks for: of each layer a level, and of that the tiles. Pure functions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ngff_xarray.channels import MAX_CHANNELS
from ngff_xarray.render import Projection
from ngff_xarray.viewing.affine import Affine, Bounds
from ngff_xarray.viewing.layers import Layer, LayerLevel, World
from ngff_xarray.viewing.model import LayerView, View

_TILE = 512  # pixels a side, about: what a browser decodes and a thread renders at once
_SMALLEST_TILE, _LARGEST_TILE = 256, 1024
_MOST_TILES = 96  # of a layer in a view
_TOLERANCE = math.sqrt(2)  # a pixel of the level may be so much larger than one of the screen
_COARSE = 256  # pixels that the coarse picture shown first has at least
_MOST_COARSE = 4  # tiles of it
_MOST_PROJECTED = 2**29  # bytes that a projection of a view may read
_MOST_STEP = 2**40


@dataclass(frozen=True)
class Resolution:
    """A level, and of which of its rows and columns every how many are drawn."""

    level: int
    steps: tuple[int, int] = (1, 1)

    @property
    def rank(self) -> float:
        """A number that is larger where pixels are: the level, or between it and the next.

        Examples
        --------
        >>> Resolution(2).rank, Resolution(2, (4, 1)).rank
        (2.0, 2.75)
        """
        return self.level + 1 - 1 / max(self.steps)


def resolution(layer: Layer, device: float) -> Resolution:
    """Return at which resolution to draw a layer.

    The coarsest level whose pixels are no larger than the screen's, with a tolerance of the root
    of two; of an axis that no finer level has finer (z, often) nothing is asked. Where even the
    coarsest is much finer than the screen, every n-th pixel of it.

    Parameters
    ----------
    device
        Units of the world that a device pixel is wide.
    """
    lengths = [level.affine().lengths for level in layer.levels]
    limit = device * _TOLERANCE
    best = 0
    for i, pixel in enumerate(lengths):
        fits = (
            size <= max(limit, finest * (1 + 1e-9))
            for size, finest in zip(pixel, lengths[0], strict=True)
        )
        best = i if all(fits) else best
    across, downwards = lengths[best]
    return Resolution(best, (_step(limit / downwards), _step(limit / across)))


def _step(ratio: float) -> int:
    """Return every how many pixels: browsers halve better themselves."""
    if not ratio >= 4:
        return 1
    return int(2 ** math.floor(math.log2(min(ratio, _MOST_STEP))))


def _coarser(layer: Layer, found: Resolution) -> Resolution:
    """Return the next coarser resolution of a layer."""
    if found.level + 1 < len(layer.levels):
        return Resolution(found.level + 1)
    return Resolution(found.level, (found.steps[0] * 2, found.steps[1] * 2))


def _affordable(layer: Layer, view: View, channels: int) -> Resolution:
    """Return the resolution for a view: coarser if that would be too many tiles, or bytes."""
    found = resolution(layer, view.scale / view.ratio)
    while not _is_affordable(layer, view, found, channels):
        found = _coarser(layer, found)
    return found


def _is_affordable(layer: Layer, view: View, found: Resolution, channels: int) -> bool:
    rows, columns = _spanned(layer, view, found)
    if len(rows) * len(columns) > _MOST_TILES:
        return False
    if view.projection is None or not layer.depth:
        return True
    # nothing is gained by skipping pixels of chunks that are read all the same
    if found.level == len(layer.levels) - 1:
        return True
    level = layer.levels[found.level]
    height, width = tile_shape(level)
    depth = math.prod(level.size(dim) for dim in layer.depth)
    pixels = min(len(rows) * height, level.shape[0]) * min(len(columns) * width, level.shape[1])
    nbytes = pixels * depth * level.source.dtype.itemsize * max(channels, 1)
    return nbytes <= _MOST_PROJECTED


# ---- which tiles ---------------------------------------------------------------------------


def tile_size(chunk: int) -> int:
    """Return how many pixels of an axis a tile has: chunks, or a whole fraction of one.

    Examples
    --------
    >>> [tile_size(chunk) for chunk in (64, 256, 512, 700, 1000, 4096, 99991)]
    [512, 512, 512, 700, 500, 512, 512]
    """
    several = [chunk * n for n in range(1, _LARGEST_TILE // chunk + 1)] if chunk else []
    parts = [chunk // n for n in range(2, chunk // _SMALLEST_TILE + 1) if chunk % n == 0]
    fitting = [n for n in (*several, *parts) if _SMALLEST_TILE <= n <= _LARGEST_TILE]
    return min(fitting, key=lambda n: abs(math.log(n / _TILE)), default=_TILE)


def tile_shape(level: LayerLevel) -> tuple[int, int]:
    """Return the rows and columns of the tiles of a level."""
    down, right = level.plane
    return _tile_size(level.chunk(down)), _tile_size(level.chunk(right))


def _tile_size(chunk: int) -> int:
    found = _TILE_SIZES.get(chunk)
    if found is None:
        found = _TILE_SIZES[chunk] = tile_size(min(chunk, 2**20))
    return found


_TILE_SIZES: dict[int, int] = {}


@dataclass(frozen=True)
class Look:
    """How the tiles of a layer are drawn, whatever part of it is seen.

    Parameters
    ----------
    layer
        What is drawn.
    shown
        How: the channels and label images that are seen, its opacity left out.
    position
        Where, on the axes that it has.
    projection, lossless
        As of the view.
    digest
        A short text that is the same for the same pixels.
    """

    layer: Layer
    shown: LayerView
    position: tuple[tuple[str, float], ...]
    projection: Projection | None
    lossless: bool
    digest: str

    @property
    def place(self) -> dict[str, float]:
        """The position by axis."""
        return dict(self.position)


@dataclass(frozen=True)
class TileSpec:
    """One tile: what is to be drawn.

    Parameters
    ----------
    key
        Names it, unlike all other tiles.
    look
        How it is drawn.
    resolution
        The level it is of.
    row, column
        Its place in the grid of tiles.
    box
        Its first and last-but-one row and column among the pixels of the level.
    height, width
        The pixels of its picture.
    matrix
        Where that lies in the world.
    """

    key: str
    look: Look
    resolution: Resolution
    row: int
    column: int
    box: tuple[int, int, int, int]
    height: int
    width: int
    matrix: Affine

    @property
    def content(self) -> tuple[Any, ...]:
        """What decides its pixels."""
        return (self.look.digest, self.resolution, self.row, self.column)

    @cached_property
    def bounds(self) -> Bounds:
        """The rectangle of the world around it."""
        return self.matrix.bounds(0, 0, self.width, self.height)


@dataclass(frozen=True)
class Plan:
    """What a view asks for.

    Parameters
    ----------
    state
        A text that is the same as long as only the viewport changes.
    order, opacity, resolutions
        The layers that are seen, bottom first; and at which resolution.
    tiles
        What covers the view, the middle first.
    coarse
        A few tiles that cover it at once, where there are coarser ones.
    """

    state: str
    order: tuple[str, ...]
    opacity: tuple[float, ...]
    resolutions: tuple[Resolution, ...]
    tiles: tuple[TileSpec, ...]
    coarse: tuple[TileSpec, ...]


def plan(world: World, view: View) -> Plan:
    """Return the tiles that a view of a world consists of."""
    shown = list(_shown(world, view))
    looks = [look_of(layer, how, view) for layer, how in shown]
    state = _digest([look.digest for look in looks])
    tiles: list[TileSpec] = []
    coarse: list[TileSpec] = []
    resolutions: list[Resolution] = []
    for look in looks:
        prefix = f"{state}/{look.layer.number}"
        found = _affordable(look.layer, view, len(look.shown.channels))
        resolutions.append(found)
        tiles += _tiles(look, view, found, prefix)
        first = _first_picture(look.layer, found)
        if first is not None:
            few = list(_tiles(look, view, first, prefix))
            coarse += few if len(few) <= _MOST_COARSE else []
    return Plan(
        state,
        tuple(layer.name for layer, _ in shown),
        tuple(how.opacity for _, how in shown),
        tuple(resolutions),
        tuple(sorted(tiles, key=_from_middle(view))),
        tuple(coarse),
    )


def _shown(world: World, view: View) -> Iterator[tuple[Layer, LayerView]]:
    """Yield the layers that are seen, and how they are drawn."""
    how = {each.name: each for each in view.layers}
    for layer in world.layers:
        drawn = how.get(layer.name)
        if drawn is None or not drawn.visible or layer.is_empty:
            continue
        if layer.holds(_place(layer, view)):
            yield layer, drawn


def look_of(layer: Layer, how: LayerView, view: View) -> Look:
    """Return how the tiles of a layer are drawn in a view."""
    active = tuple(channel for channel in how.channels if channel.active)[:MAX_CHANNELS]
    known = {each.name for each in layer.labels}
    labels = tuple(
        each
        for each in how.labels
        if each.visible and each.opacity > 0 and (each.name in known or layer.kind == "labels")
    )
    shown = LayerView(layer.name, channels=active, labels=labels)
    position = tuple(_place(layer, view).items())
    projection = view.projection if _has_depth(layer) else None
    said = [(each.name, each.opacity, each.outline, sorted(each.selected)) for each in labels]
    decides = (
        layer.number,
        layer.levels[0].plane,
        active,
        said,
        position,
        projection,
        view.lossless,
        layer.revision,
    )
    return Look(layer, shown, position, projection, view.lossless, _digest(decides))


def _has_depth(layer: Layer) -> bool:
    return bool(layer.depth) or any(each.depth for each in layer.labels)


def _place(layer: Layer, view: View) -> dict[str, float]:
    """Return the position on the axes that a layer and its labels have and do not project."""
    layers = (layer, *layer.labels)
    dims = {dim for each in layers for dim in each.levels[0].along}
    if view.projection is not None:
        dims -= {dim for each in layers for dim in each.depth}
    return {dim: place for dim, place in view.position if dim in dims}


def _digest(value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()


def _first_picture(layer: Layer, found: Resolution) -> Resolution | None:
    """Return the coarsest resolution that still shows something, if it is a coarser one."""
    for number in range(len(layer.levels) - 1, found.level, -1):
        if max(layer.levels[number].shape) >= _COARSE or number == found.level + 1:
            return Resolution(number)
    return None


def _from_middle(view: View) -> Callable[[TileSpec], float]:
    x, y = view.center

    def distance(tile: TileSpec) -> float:
        left, top, right, bottom = tile.bounds
        return math.hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0))

    return distance


def _spanned(layer: Layer, view: View, found: Resolution) -> tuple[range, range]:
    """Return the rows and columns of tiles around a view, among those that there are."""
    level = layer.levels[found.level]
    affine = level.affine(level.indices(view.place))
    left, top, right, bottom = affine.inverse().bounds(*view.extent)
    rows, columns = level.shape
    height, width = (size * step for size, step in zip(tile_shape(level), found.steps, strict=True))
    return _range(top, bottom, height, rows), _range(left, right, width, columns)


def _range(start: float, stop: float, size: int, count: int) -> range:
    """Return which parts of an axis, each of some size, touch an interval of it."""
    start, stop = max(start, 0.0), min(stop, float(count))
    if not start < stop:  # beside it, or NaN
        return range(0)
    return range(math.floor(start / size), math.ceil(stop / size))


def _tiles(look: Look, view: View, found: Resolution, prefix: str) -> Iterator[TileSpec]:
    """Yield the tiles of a level that are seen."""
    layer = look.layer
    level = layer.levels[found.level]
    affine = level.affine(level.indices(view.place))
    (height, width), (down, right) = tile_shape(level), found.steps
    rows, columns = _spanned(layer, view, found)
    for row in rows:
        top, bottom = _part(row, height * down, level.shape[0])
        for column in columns:
            left, far = _part(column, width * right, level.shape[1])
            # a turned layer has tiles in its rows and columns that the view does not touch
            if not affine.is_upright and not _overlap(
                affine.bounds(left, top, far, bottom), view.extent
            ):
                continue
            tall, wide = -(-(bottom - top) // down), -(-(far - left) // right)
            stretched = Affine(
                (far - left) / wide, 0.0, 0.0, (bottom - top) / tall, float(left), float(top)
            )
            yield TileSpec(
                key=f"{prefix}/{found.level}.{down}.{right}/{row}/{column}",
                look=look,
                resolution=found,
                row=row,
                column=column,
                box=(top, bottom, left, far),
                height=tall,
                width=wide,
                matrix=affine.after(stretched),
            )


def _part(number: int, size: int, count: int) -> tuple[int, int]:
    return number * size, min((number + 1) * size, count)


def _overlap(one: Bounds, other: Bounds) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def neighbours(world: World, view: View) -> Iterator[View]:
    """Yield the views that a slider is likely to ask for next: one step along each axis."""
    projected = {dim for layer in world.layers for dim in layer.depth} if view.projection else ()
    for dim in world.dims:
        if dim.count < 2 or dim.name in projected or dim.type not in ("space", "time"):
            continue
        index = dim.index(view.place[dim.name])
        for other in (index + 1, index - 1):
            if 0 <= other < dim.count:
                yield view.at(**{dim.name: dim.at(other)})
