"""The pixels of tiles: planes of channels in colour, and the labels at every pixel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import render
from ngff_xarray.channels import table
from ngff_xarray.model import RGBA
from ngff_xarray.render import Projection
from ngff_xarray.viewing.affine import Affine
from ngff_xarray.viewing.cache import Loader, Lru
from ngff_xarray.viewing.layers import Layer, LayerLevel
from ngff_xarray.viewing.model import ChannelView, LabelView
from ngff_xarray.viewing.planning import TileSpec
from ngff_xarray.viewing.sources import Array, Reader, check_affordable

RGBPixels = NDArray[np.uint8]
Window = tuple[float, float]

_NOISE = 1e-6  # of a pixel: so far from an edge floats are to be trusted
_MOST_DEPTH = 2**28  # bytes of a volume that the projection in one tile reads
_SAMPLE_WIDTH = 512  # pixels: coarser levels have lost their peaks
_SAMPLE_BLOCKS = 3  # a side, of planes that are too large to be read
_SAMPLE_BLOCK = 256
_MOST_SAMPLED, _MOST_SAMPLED_CHUNKS = 2**25, 2**8  # bytes, chunks


@dataclass(frozen=True)
class Part:
    """Rows and columns of a level, perhaps not all of them."""

    top: int
    bottom: int
    left: int
    right: int
    down_step: int = 1
    right_step: int = 1

    @property
    def rows(self) -> slice:
        """The rows that are taken."""
        return _middles(self.top, self.bottom, self.down_step)

    @property
    def columns(self) -> slice:
        """The columns that are taken."""
        return _middles(self.left, self.right, self.right_step)


def _around(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Part:
    """Return the part that holds some rows and columns."""
    top, bottom, left, right = np.min(rows), np.max(rows), np.min(columns), np.max(columns)
    return Part(int(top), int(bottom) + 1, int(left), int(right) + 1)


def _middles(start: int, stop: int, step: int) -> slice:
    """Return the middle of every ``step`` pixels; one of the last few, too."""
    return slice(start + min(step // 2, (stop - start - 1) % step), stop, step)


class Painter:
    """Draws tiles.

    Parameters
    ----------
    reader
        Reads pixels.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._windows: Loader[Hashable, Window] = Loader(Lru(2**20, lambda window: 64))

    # ---- pictures --------------------------------------------------------------------------

    def draw(self, tile: TileSpec) -> RGBPixels:
        """Return a tile as (y, x, 3) of an image, (y, x, 4) of labels."""
        if tile.look.layer.kind == "labels":
            return self._labels_alone(tile)
        rgb = self._channels(tile)
        for how in tile.look.shown.labels:
            layer = next(each for each in tile.look.layer.labels if each.name == how.name)
            labels = self.labels_at(tile, layer)
            if labels is not None:
                rgb = _over(rgb, labels, _stored_colors(layer, labels), how)
        scenery = tile.look.layer.scenery
        return rgb if scenery is None else scenery.painted(rgb, tile.matrix)

    def _channels(self, tile: TileSpec) -> RGBPixels:
        layer, shown = tile.look.layer, tile.look.shown.channels
        if not shown:
            return np.zeros((tile.height, tile.width, 3), np.uint8)
        names = [channel.name for channel in layer.channels]
        numbers = [names.index(channel.name) for channel in shown]
        level = layer.levels[tile.resolution.level]
        part = Part(*tile.box, *tile.resolution.steps)
        # (top, bottom, left, right) of the tile are those of the part

        def windows() -> list[Window]:
            return [
                self.window(layer, number) if channel.window is None else channel.window
                for channel, number in zip(shown, numbers, strict=True)
            ]

        # of many images those that stand for all are not to wait for the others
        known = windows() if layer.scenery is not None else None
        planes = self.planes(layer, level, tile.look.place, part, numbers, tile.look.projection)
        return render.composite(
            planes,
            [_color(channel) for channel in shown],
            windows() if known is None else known,
            gammas=[channel.gamma for channel in shown],
            inverted=[channel.inverted for channel in shown],
        )

    def _labels_alone(self, tile: TileSpec) -> RGBPixels:
        labels = self.labels_of(tile)
        shape = (tile.height, tile.width, 3)
        black, white = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
        if labels is not None:
            stored = _stored_colors(tile.look.layer, labels)
            for how in tile.look.shown.labels:
                black = _over(black, labels, stored, how)
                white = _over(white, labels, stored, how)
        return _with_alpha(black, white)

    # ---- planes ----------------------------------------------------------------------------

    def planes(
        self,
        layer: Layer,
        level: LayerLevel,
        place: Mapping[str, float],
        part: Part,
        channels: Sequence[int],
        projection: Projection | None,
    ) -> list[Array]:
        """Return a part of a level as one (y, x) array a channel, read-only.

        Parameters
        ----------
        place
            The position on the other axes; nothing of those that are projected.
        channels
            The numbers of channels; those beside each other are read together.
        """
        box = self._box(level, place, part)
        found: dict[int, Array] = {}
        for run in _runs_of(channels):
            if layer.channel_dim is not None:
                box[layer.channel_dim] = slice(run[0], run[-1] + 1)
            kept = [layer.channel_dim] if layer.channel_dim is not None else []
            pixels = self._pixels(layer, level, box, kept, projection)
            found |= dict(zip(run, pixels if kept else [pixels], strict=True))
        return [found[number] for number in channels]

    def _box(self, level: LayerLevel, place: Mapping[str, float], part: Part) -> dict[str, slice]:
        indices = level.indices(place)
        box: dict[str, slice] = {dim: slice(i, i + 1) for dim, i in indices.items()}
        box.update(zip(level.plane, (part.rows, part.columns), strict=True))
        return box

    def _pixels(
        self,
        layer: Layer,
        level: LayerLevel,
        box: Mapping[str, slice],
        kept: Sequence[str],
        projection: Projection | None,
    ) -> Array:
        """Return the pixels of a box with the axes ``kept``, down and right."""
        depth = [dim for dim in layer.depth if dim in level.dims]
        if projection is None or not depth:
            return _arranged(level, self._reader.read(level.source, _ordered(level, box)), kept)
        wanted = dict(box)
        wanted.update((dim, slice(0, level.size(dim))) for dim in depth)
        bounds = tuple((cut.start, cut.stop, cut.step) for cut in _ordered(level, wanted))

        def project() -> Array:
            slabs = self._slabs(level, wanted, depth, kept)
            return render.project(slabs, projection)

        key = (level.source.number, level.plane, projection, bounds, layer.revision)
        return self._reader.keep(key, project)

    def _slabs(
        self,
        level: LayerLevel,
        box: Mapping[str, slice],
        depth: Sequence[str],
        kept: Sequence[str],
    ) -> Iterator[Array]:
        """Yield a volume slab by slab, each a chunk deep; every n-th plane of one too deep."""
        first = depth[0]
        sizes = [_length(cut) for cut in box.values()]
        nbytes = math.prod(sizes) * level.source.dtype.itemsize
        every = max(1, math.ceil(nbytes / _MOST_DEPTH))
        count, chunk = level.size(first), level.chunk(first)
        thick = max(1, chunk // every) * every
        for start in range(0, count, thick):
            slab = {**box, first: slice(start, min(start + thick, count), every)}
            pixels = self._reader.read(level.source, _ordered(level, slab))
            found = _arranged(level, pixels, [*depth, *kept])
            yield found.reshape(-1, *found.shape[len(depth) :])

    # ---- labels ----------------------------------------------------------------------------

    def labels_of(self, tile: TileSpec) -> Array | None:
        """Return the labels at the pixels of a tile: its layer's, or the topmost over it."""
        layer = tile.look.layer
        if layer.kind != "labels":
            shown = {how.name for how in tile.look.shown.labels}
            over = [each for each in layer.labels if each.name in shown]
            return self.labels_at(tile, over[-1]) if over else None
        level = layer.levels[tile.resolution.level]
        part = Part(*tile.box, *tile.resolution.steps)
        return self._label_plane(layer, level, tile, part)

    def labels_at(self, tile: TileSpec, layer: Layer) -> Array | None:
        """Return a label image at every pixel of a tile of another layer: (y, x), 0 beside it."""
        place = tile.look.place
        if layer.is_empty or not layer.holds(place):
            return None
        level = _level_for(layer, tile)
        there = level.affine(level.indices(place)).inverse().after(tile.matrix)
        if there.is_upright:
            return self._labels_upright(tile, layer, level, there)
        return self._labels_turned(tile, layer, level, there)

    def _labels_upright(
        self, tile: TileSpec, layer: Layer, level: LayerLevel, there: Affine
    ) -> Array | None:
        rows = _nearest(there.d, there.f, tile.height, level.shape[0])
        columns = _nearest(there.a, there.e, tile.width, level.shape[1])
        down, right = rows[rows >= 0], columns[columns >= 0]
        if not down.size or not right.size:
            return None
        part = _around(down, right)
        spanned = (part.bottom - part.top) * (part.right - part.left)
        if spanned > 16 * down.size * right.size:  # only every n-th is needed
            inside = self._sparse(layer, level, tile, down, right)
        else:
            plane = self._label_plane(layer, level, tile, part)
            inside = _taken(plane, down - part.top, right - part.left)
        if inside.shape == (tile.height, tile.width):
            return inside
        found = np.zeros((tile.height, tile.width), inside.dtype)
        found[np.ix_(rows >= 0, columns >= 0)] = inside
        return found

    def _labels_turned(
        self, tile: TileSpec, layer: Layer, level: LayerLevel, there: Affine
    ) -> Array | None:
        i = np.arange(tile.width) + 0.5
        j = (np.arange(tile.height) + 0.5)[:, np.newaxis]
        columns = np.floor(there.a * i + there.c * j + there.e + _NOISE)
        rows = np.floor(there.b * i + there.d * j + there.f + _NOISE)
        height, width = level.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if not inside.any():
            return None
        down, right = rows[inside].astype(np.intp), columns[inside].astype(np.intp)
        part = _around(down, right)
        plane = self._label_plane(layer, level, tile, part)
        found = np.zeros(inside.shape, plane.dtype)
        found[inside] = plane[down - part.top, right - part.left]
        return found

    def _label_plane(self, layer: Layer, level: LayerLevel, tile: TileSpec, part: Part) -> Array:
        # of labels no mean is a label
        how: Projection | None = "max" if tile.look.projection else None
        return self.planes(layer, level, tile.look.place, part, [0], how)[0]

    def _sparse(
        self,
        layer: Layer,
        level: LayerLevel,
        tile: TileSpec,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> Array:
        """Return some rows and columns of labels that have no level as coarse as the tile."""
        box = self._box(level, tile.look.place, Part(0, 1, 0, 1))
        if layer.channel_dim is not None:
            box[layer.channel_dim] = slice(0, 1)
        chunks = [
            np.unique(taken // level.chunk(dim)).size
            for dim, taken in zip(level.plane, (rows, columns), strict=True)
        ]
        count = math.prod(chunks)
        check_affordable(count, 0 if level.source.in_memory else count * level.source.chunk_nbytes)
        where: dict[str, slice | NDArray[np.intp]] = {**box}
        where.update(zip(level.plane, (rows, columns), strict=True))
        pixels = level.source.read([where[dim] for dim in level.dims])
        return _arranged(level, pixels, [])

    # ---- contrast --------------------------------------------------------------------------

    def window(self, layer: Layer, channel: int) -> Window:
        """Return a window that shows a channel well, found once."""
        key = (layer.number, layer.levels[0].plane, channel, layer.revision)

        def find(keys: Sequence[Hashable]) -> dict[Hashable, Window]:
            return {keys[0]: render.auto_window(self.sample(layer, channel))}

        return self._windows.fetch([key], find)[key]

    def sample(self, layer: Layer, channel: int, place: Mapping[str, float] | None = None) -> Array:
        """Return pixels of a plane that stand for all of it, flat.

        Those of the coarsest level that is not too coarse; of a plane that is too large for that,
        some blocks spread over it.
        """
        level = _level_to_sample(layer)
        parts = _parts_to_sample(level)
        if layer.scenery is not None:
            level, bounds = layer.scenery.samples(layer)
            parts = [Part(*each) for each in bounds] or parts
        if layer.is_empty:
            return np.zeros(0, layer.dtype)
        if place is None:
            place = {dim: along.at(layer.start[dim]) for dim, along in _positions(layer)}

        def block(part: Part) -> Array:
            return self.planes(layer, level, place, part, [channel], None)[0].reshape(-1)

        if len(parts) == 1:
            return block(parts[0])
        with ThreadPoolExecutor(len(parts)) as pool:  # for stores far away
            return np.concatenate(list(pool.map(block, parts)))


def _positions(layer: Layer) -> Iterator[tuple[str, Any]]:
    return ((dim, along) for dim, along in layer.levels[0].along.items() if along.count)


def _level_to_sample(layer: Layer) -> LayerLevel:
    wide = [level for level in layer.levels if max(level.shape) >= _SAMPLE_WIDTH]
    return wide[-1] if wide else layer.levels[0]


def _parts_to_sample(level: LayerLevel) -> list[Part]:
    rows, columns = level.shape
    nbytes = rows * columns * level.source.dtype.itemsize
    chunks = math.prod(-(-level.size(dim) // level.chunk(dim)) for dim in level.plane)
    few = nbytes <= _MOST_SAMPLED and chunks <= _MOST_SAMPLED_CHUNKS
    if level.source.in_memory or few:
        step = max(1, math.isqrt(rows * columns // 2**22))
        return [Part(0, rows, 0, columns, step, step)] if rows and columns else [Part(0, 0, 0, 0)]
    return [
        Part(top, min(top + _SAMPLE_BLOCK, rows), left, min(left + _SAMPLE_BLOCK, columns))
        for top, left in itertools.product(_spread(rows), _spread(columns))
    ]


def _spread(count: int) -> list[int]:
    """Return where blocks begin that are spread over an axis."""
    last = max(count - _SAMPLE_BLOCK, 0)
    return sorted({last * (2 * n + 1) // (2 * _SAMPLE_BLOCKS) for n in range(_SAMPLE_BLOCKS)})


def _color(channel: ChannelView) -> render.Color:
    return channel.color if channel.colormap is None else table(channel.colormap)


def _over(rgb: RGBPixels, labels: Array, stored: Mapping[int, RGBA], how: LabelView) -> RGBPixels:
    return render.overlay_labels(
        rgb,
        labels,
        stored=stored,
        alpha=how.opacity,
        outline=how.outline,
        selected=how.selected,
    )


def _stored_colors(layer: Layer, labels: Array) -> dict[int, RGBA]:
    """Return the stored colours of the labels that occur, of millions perhaps."""
    return layer.colors(np.unique(run_starts(labels)[1]).tolist())


def run_starts(labels: Array) -> tuple[NDArray[np.intp], Array]:
    """Return where runs of equal labels start, row after row, and the label of each.

    Examples
    --------
    >>> [part.tolist() for part in run_starts(np.array([[0, 0, 5], [5, 5, 0]]))]
    [[0, 2, 5], [0, 5, 0]]
    """
    flat = labels.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([np.zeros(min(flat.size, 1), np.intp), changes])
    return starts, flat[starts]


def _with_alpha(black: RGBPixels, white: RGBPixels) -> RGBPixels:
    """Return what gives one picture over black and another over white, as colour and opacity."""
    alpha = 255 - (white.astype(np.int16) - black)[..., 0]
    out = np.empty((*black.shape[:2], 4), np.uint8)
    out[..., 3] = np.clip(alpha, 0, 255)
    if np.isin(alpha, (0, 255)).all():
        out[..., :3] = black
    else:
        opaque = black * (255 / np.maximum(alpha, 1))[..., np.newaxis]
        out[..., :3] = np.clip(np.rint(opaque), 0, 255)
    return out


def _runs_of(numbers: Sequence[int]) -> list[list[int]]:
    """Return numbers in runs of consecutive ones.

    Examples
    --------
    >>> _runs_of([4, 0, 1, 5])
    [[0, 1], [4, 5]]
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _ordered(level: LayerLevel, box: Mapping[str, slice]) -> tuple[slice, ...]:
    return tuple(box.get(dim, slice(0, 1)) for dim in level.dims)


def _length(cut: slice) -> int:
    return len(range(cut.start, cut.stop, cut.step or 1))


def _arranged(level: LayerLevel, pixels: Array, kept: Sequence[str]) -> Array:
    """Return an array with the axes ``kept``, down and right, in that order, and no others."""
    wanted = [*kept, *level.plane]
    index = tuple(slice(None) if dim in wanted else 0 for dim in level.dims)
    left = [dim for dim in level.dims if dim in wanted]
    return pixels[index].transpose([left.index(dim) for dim in wanted])


def _level_for(layer: Layer, tile: TileSpec) -> LayerLevel:
    """Return the coarsest level of labels that is as fine as a tile."""
    wanted = tile.matrix.lengths
    best = layer.levels[0]
    for level in layer.levels:
        sizes = level.affine().lengths
        if all(size <= most * 1.001 for size, most in zip(sizes, wanted, strict=True)):
            best = level
    return best


def _nearest(step: float, start: float, count: int, size: int) -> NDArray[np.intp]:
    """Return which pixel of an axis of labels holds the centre of each of a tile; -1 beside it."""
    # on the edge of two pixels it is of the one that is farther on in the world
    found = np.floor((np.arange(count) + 0.5) * step + start + math.copysign(_NOISE, step))
    found[(found < 0) | (found >= size)] = -1
    return found.astype(np.intp)


def _taken(plane: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Array:
    if (
        plane.shape == (rows.size, columns.size)
        and rows[0] <= rows[-1]
        and columns[0] <= columns[-1]
    ):
        return plane  # all of it, in its order
    return plane[np.ix_(rows, columns)]
