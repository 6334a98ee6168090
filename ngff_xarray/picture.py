"""An image -> one picture: which level, which plane, which channels, which labels over it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, ops, overlay, render, selection
from ngff_xarray.errors import NotOmeError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel, Window
from ngff_xarray.overlay import Labels
from ngff_xarray.spec import omero

Projection = Literal["max", "mean", "min"]

MAX_PIXELS = 2**20
MAX_CHUNKS = 2**16  # that a picture may read
MAX_CHANNELS = 8
_MOST_BYTES, _MOST_CHUNKS = 2**25, 2**9  # that a thumbnail may read
_PROJECTIONS = ("max", "mean", "min")
_TRUE_COLOR = (
    Channel("0", (255, 0, 0), Window(0, 255)),
    Channel("1", (0, 255, 0), Window(0, 255)),
    Channel("2", (0, 0, 255), Window(0, 255)),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn plane.

    Parameters
    ----------
    rgb
        uint8 of shape (y, x, 3).
    y, x
        The coordinates of its pixels.
    channels
        The channels drawn, with the colour and window each was drawn with; none for labels.
    position
        Where the plane lies on the axes that are not drawn, in their units.
    """

    rgb: NDArray[np.uint8]
    y: xr.DataArray
    x: xr.DataArray
    channels: tuple[Channel, ...]
    position: Mapping[str, float | str]


def rgb(
    obj: Obj,
    *,
    labels: Labels = None,
    level: object = None,
    channels: Sequence[str] | str | None = None,
    projection: Projection | None = None,
    max_pixels: int = MAX_PIXELS,
    **position: Any,
) -> xr.DataArray:
    """Return a plane of an image in colour.

    Parameters
    ----------
    labels
        Label images to draw over it: a name, a list of names, True for all, or a label image.
    level
        A level by number or pixel size. By default the finest whose plane has no more than
        ``max_pixels``, so that a look at a huge image reads little.
    channels
        Names of the channels to draw; by default those the store calls active, up to eight.
    projection
        ``"max"``, ``"mean"`` or ``"min"`` over the third axis of space instead of one plane.
    max_pixels
        How many pixels the picture may have.
    **position
        A position or region an axis, as ``sel`` takes them. By default the store's (``rdefs``),
        otherwise the middle of space axes and the first of others.

    Returns
    -------
    xarray.DataArray
        uint8 of shape (y, x, rgb: 3), with the coordinates of the level it was drawn from.

    Raises
    ------
    SelectionError
        If there is no such level, channel, label image, position or region, or too much to read.
    NotOmeError
        If the object is no picture.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> rgb(xr.open_datatree(sample("histology")), max_pixels=2**16).shape
    (256, 256, 3)
    """
    drawn = draw(
        obj,
        labels=labels,
        level=level,
        channels=channels,
        projection=projection,
        max_pixels=max_pixels,
        position=position,
    )
    dims = (drawn.y.name, drawn.x.name, "rgb")
    colors = xr.Variable("rgb", ["red", "green", "blue"], {"axis_type": "channel"})
    coords = {drawn.y.name: drawn.y, drawn.x.name: drawn.x, "rgb": colors}
    return xr.DataArray(drawn.rgb, dims=dims, coords=coords, name="rgb")


def draw(
    obj: Obj,
    *,
    labels: Labels = None,
    level: object = None,
    channels: Sequence[str] | str | None = None,
    projection: Projection | None = None,
    max_pixels: int = MAX_PIXELS,
    position: Mapping[str, Any] | None = None,
    outline: bool = False,
) -> Picture:
    """Return a plane of an image as a `Picture`; the parameters are those of `rgb`."""
    arrays = image.levels(obj)
    array, at = _plane(arrays, level, projection, max_pixels, position or {})
    drawn: tuple[Channel, ...] = ()
    if image.kind(obj) == "labels":
        largest: Projection | None = "max" if projection else None  # a mean is no label
        pixels = _draw_labels(_project(array, largest), obj)
    else:
        array, chosen = _select_channels(array, obj, channels)
        computed = "chunks" not in array.encoding
        pixels, drawn = _draw_channels(_project(array, projection), chosen, computed=computed)
    down, right = image.plane_dims(arrays[0])
    y, x = array[down], array[right]
    for tree in overlay.label_images(obj, labels):
        over = overlay.label_plane(tree, y, x, at, arrays[0], projected=projection is not None)
        stored = image.label_colors(tree)
        pixels = render.overlay_labels(pixels, over, stored=stored, outline=outline)
    return Picture(pixels, y, x, drawn, at)


# ---- the plane -----------------------------------------------------------------------------


def _plane(
    arrays: Sequence[xr.DataArray],
    level: object,
    projection: Projection | None,
    max_pixels: int,
    position: Mapping[str, Any],
) -> tuple[xr.DataArray, dict[str, float | str]]:
    """Return (c?, z?, y, x) of the chosen level, lazily, and where it lies.

    An axis to project over is still there: channels are chosen before anything is read.
    """
    _check_drawable(arrays[0])
    down, right = image.plane_dims(arrays[0])
    channel = image.channel_dim(arrays[0])
    over = _projected_dims(arrays[0], projection, position)
    at = {
        str(dim): _default_position(arrays[0], str(dim), position)
        for dim in arrays[0].dims
        if dim not in (down, right, channel) and dim not in over
    }
    indexers = {**position, **at}
    flat = [dim for dim in (down, right) if not isinstance(indexers.get(dim, slice(0)), slice)]
    if flat:
        raise SelectionError(f"{flat[0]}: a picture needs a region of it: a slice")
    where = selection.positions_of_levels(arrays, indexers)
    cropped = [array.isel(chosen) for array, chosen in zip(arrays, where, strict=True)]
    array = _choose(cropped, level, max_pixels)
    _check_budget(array, (down, right, *over))
    array = _strided(array, (down, right), max_pixels)
    dims = [dim for dim in (channel, *over, down, right) if dim in array.dims]
    return array.transpose(*dims), at


def _check_drawable(array: xr.DataArray) -> None:
    if array.dtype.kind not in "buif":
        raise NotOmeError(f"{array.dtype} is no dtype of pictures: expected integers or floats")
    for dim in array.dims:
        if not array.sizes[dim]:
            raise SelectionError(f"axis {dim} is empty: there is nothing to draw")
    for dim in image.plane_dims(array):
        if not geometry.is_numeric(array[dim]):
            raise NotOmeError(f"{dim} has no positions to draw along: its coordinate holds names")


def _project(array: xr.DataArray, projection: Projection | None) -> xr.DataArray:
    """Return the array projected over the axes that are neither channels nor drawn."""
    drawn = {*image.plane_dims(array), image.channel_dim(array)}
    over = [dim for dim in array.dims if dim not in drawn]
    if not over or projection is None:
        return array
    return {"max": array.max, "mean": array.mean, "min": array.min}[projection](
        over, keep_attrs=True
    )


def _choose(cropped: Sequence[xr.DataArray], level: object, max_pixels: int) -> xr.DataArray:
    if level is None:
        return cropped[ops.level_number(cropped, max_pixels=max_pixels)]
    return cropped[ops.which_level(cropped, level)]


def _projected_dims(
    array: xr.DataArray, projection: Projection | None, position: Mapping[str, Any]
) -> list[str]:
    """Return the space axes to project over."""
    if projection is None:
        slices = [dim for dim in position if isinstance(position[dim], slice)]
        loose = set(slices) - {*image.plane_dims(array), image.channel_dim(array)}
        if loose:
            choices = " or ".join(map(repr, _PROJECTIONS))
            raise SelectionError(f"{loose.pop()}: a region of it needs a projection: {choices}")
        return []
    if projection not in _PROJECTIONS:
        raise SelectionError(f"projection: expected one of {_PROJECTIONS}, found {projection!r}")
    single = {dim for dim, where in position.items() if not isinstance(where, slice)}
    third = [axis.name for axis in image.axes(array) if axis.type == "space"]
    return [dim for dim in third if dim not in image.plane_dims(array) and dim not in single]


def _default_position(array: xr.DataArray, dim: str, position: Mapping[str, Any]) -> float | str:
    """Return where to cut an axis: where the user says, the store, or a sensible place."""
    coordinate = array[dim]
    kind = {axis.name: axis.type for axis in image.axes(array)}[dim]
    if kind == "channel" or not geometry.is_numeric(coordinate):
        return str(coordinate.values[selection.positions(array, {dim: position.get(dim, 0)})[dim]])
    if dim in position:
        return geometry.position(position[dim], coordinate)
    index = omero.default_index(image.ome(array).get("omero"), kind, dim)
    if index is None or not 0 <= index < coordinate.size:
        index = coordinate.size // 2 if kind == "space" else 0
    return float(geometry.numbers(coordinate)[index])


def _strided(array: xr.DataArray, plane: tuple[str, str], max_pixels: int) -> xr.DataArray:
    """Return every n-th pixel of a plane that has no level as small as was asked for."""
    pixels = math.prod(array.sizes[dim] for dim in plane)
    step = math.ceil(math.sqrt(pixels / max(max_pixels, 1)))
    return array.isel({dim: slice(None, None, step) for dim in plane}) if step > 2 else array


# ---- the pixels ----------------------------------------------------------------------------


def _select_channels(
    array: xr.DataArray, obj: Obj, names: Sequence[str] | str | None
) -> tuple[xr.DataArray, tuple[Channel, ...]]:
    channels = _stored_channels(array, obj)
    chosen = _chosen(channels, names)
    dim = image.channel_dim(array)
    if dim is not None:
        array = array.isel({dim: chosen})
    return array, tuple(channels[i] for i in chosen)


def _draw_channels(
    array: xr.DataArray, channels: Sequence[Channel], *, computed: bool
) -> tuple[NDArray[np.uint8], tuple[Channel, ...]]:
    planes = list(array.values) if image.channel_dim(array) else [array.values]
    colors = render.channel_colors(len(channels))
    drawn = []
    for channel, plane, color in zip(channels, planes, colors, strict=True):
        window = channel.window
        if window is None or (computed and not _overlaps(window, plane)):
            window = Window(*render.auto_window(plane))
        drawn.append(Channel(channel.name, channel.color or color, window, channel.active))
    windows = [(c.window.start, c.window.end) for c in drawn if c.window is not None]
    return render.composite(planes, [c.color for c in drawn if c.color], windows), tuple(drawn)


def _overlaps(window: Window, plane: NDArray[Any]) -> bool:
    """Tell whether a stored window shows anything of values that were computed from the store's."""
    low, high = render.auto_window(plane, (0, 100))
    first, last = sorted((window.start, window.end))
    return bool(low < last and high > first)


def _stored_channels(array: xr.DataArray, obj: Obj) -> tuple[Channel, ...]:
    """Return the channels as stored; three of bytes that nobody described are true colour."""
    channels = image.channels(array)
    undescribed = not image.ome(obj).get("omero")
    if undescribed and array.dtype == np.uint8 and len(channels) == 3:
        return _TRUE_COLOR
    return channels


def _chosen(channels: Sequence[Channel], names: Sequence[str] | str | None) -> list[int]:
    if names is None:
        active = [i for i, channel in enumerate(channels) if channel.active]
        return (active or list(range(len(channels))))[:MAX_CHANNELS]
    known = [channel.name for channel in channels]
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, list | tuple) or not wanted or not set(wanted) <= set(known):
        raise SelectionError(f"there is no channel {names!r}; the channels are {', '.join(known)}")
    return [known.index(name) for name in wanted]


def _draw_labels(array: xr.DataArray, obj: Obj) -> NDArray[np.uint8]:
    channel = image.channel_dim(array)
    values = (array if channel is None else array.isel({channel: 0})).values
    if values.dtype.kind not in "bui":
        raise NotOmeError(f"labels must be integers to be drawn, found {values.dtype}")
    black = np.zeros((*values.shape, 3), np.uint8)
    return render.overlay_labels(black, values, stored=image.label_colors(obj), alpha=1.0)


# ---- thumbnails ----------------------------------------------------------------------------


def thumbnail(obj: Obj, size: int = 144) -> NDArray[np.uint8] | None:
    """Return a small picture from the coarsest level alone, or None if that is too large.

    Parameters
    ----------
    size
        The longest side in pixels.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
    """
    array = image.levels(obj)[-1]
    plane = image.plane_dims(array)
    pixels = math.prod(array.sizes[dim] for dim in plane)
    channels = min(array.sizes.get(image.channel_dim(array) or "", 1), MAX_CHANNELS)
    affordable = pixels * channels * array.dtype.itemsize <= _MOST_BYTES
    if not pixels or not affordable or _chunk_count(array, plane) * channels > _MOST_CHUNKS:
        return None
    return _shrunk(draw(obj, level=-1, max_pixels=pixels).rgb, size)


def _check_budget(array: xr.DataArray, dims: Sequence[str]) -> None:
    """Refuse to read so many chunks that a picture would never be done."""
    count = _chunk_count(array, dims)
    if count > MAX_CHUNKS:
        raise SelectionError(
            f"this picture would read {count} chunks, more than {MAX_CHUNKS}, for there is no "
            f"coarser level: draw a region, with {dims[0]}=slice(…) and {dims[1]}=slice(…)"
        )


def _chunk_count(array: xr.DataArray, dims: Sequence[str]) -> int:
    """Return about how many stored chunks lie under an array along some axes."""
    chunk = array.encoding.get("preferred_chunks") or {}
    sizes = {dim: array.sizes[dim] for dim in dims}
    return math.prod(math.ceil(n / _first(chunk.get(dim, n))) for dim, n in sizes.items() if n)


def _first(chunk: Any) -> int:
    """Return the size of the first chunk along an axis, of even or uneven ones."""
    return int(chunk[0] if isinstance(chunk, Sequence) else chunk) or 1


def _shrunk(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the picture with blocks of pixels averaged until its longest side fits."""
    factor = math.ceil(max(pixels.shape[:2]) / size)
    if factor == 1:
        return pixels
    rows, columns = (max(n // factor, 1) for n in pixels.shape[:2])
    block_y, block_x = min(factor, pixels.shape[0]), min(factor, pixels.shape[1])
    cut = pixels[: rows * block_y, : columns * block_x]
    blocks = cut.reshape(rows, block_y, columns, block_x, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
