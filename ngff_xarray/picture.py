"""An image -> one picture: a plane in the colours of its channels, and labels over it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import channels as looks
from ngff_xarray import image, overlay, planes, render
from ngff_xarray.channels import MAX_CHANNELS, Channels
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.overlay import LabelPlane, Labels
from ngff_xarray.planes import MAX_PIXELS, Choice, Plane
from ngff_xarray.render import Projection

_MOST_BYTES, _MOST_CHUNKS = 2**25, 2**9  # that a thumbnail may read


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


@dataclass(frozen=True, slots=True)
class LabelStyle:
    """The label images to draw over a picture, and how.

    Parameters
    ----------
    labels
        A name, a list of names, True for all, or a label image.
    outline
        Draw outlines instead of filling.
    opacity
        Of filled labels, 0 to 1.
    selected
        Ids that stand out.
    """

    labels: Labels = None
    outline: bool = False
    opacity: float = 0.5
    selected: Collection[int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise SelectionError(f"opacity is {self.opacity}; expected 0 to 1")


def rgb(
    obj: Obj,
    *,
    labels: Labels = None,
    outline: bool = False,
    opacity: float = 0.5,
    selected: Collection[int] | None = None,
    level: object = None,
    channels: Channels = None,
    projection: Projection | None = None,
    max_pixels: int = MAX_PIXELS,
    **position: Any,
) -> xr.DataArray:
    """Return a plane of an image in colour.

    Parameters
    ----------
    labels
        Label images to draw over it: a name, a list of names, True for all, or a label image.
    outline, opacity
        Draw the outlines of labels instead of filling them; how opaque filled ones are, 0 to 1.
    selected
        Ids of labels that stand out.
    level
        A level by number or pixel size. By default the finest whose plane has no more than
        ``max_pixels``, so that a look at a huge image reads little.
    channels
        The channels to draw; by default those the store calls active, up to eight. Names, or a
        mapping from names to how they look: ``{"DAPI": "magma", "GFP": {"gamma": 0.5}}``.
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
    choice = Choice(level, channels, projection, max_pixels, position)
    drawn = draw(obj, choice, LabelStyle(labels, outline, opacity, selected))
    dims = (drawn.y.name, drawn.x.name, "rgb")
    colors = xr.Variable("rgb", ["red", "green", "blue"], {"axis_type": "channel"})
    coords = {drawn.y.name: drawn.y, drawn.x.name: drawn.x, "rgb": colors}
    return xr.DataArray(drawn.rgb, dims=dims, coords=coords, name="rgb")


def draw(obj: Obj, choice: Choice | None = None, over: LabelStyle | None = None) -> Picture:
    """Return a plane of an image as a `Picture`, labels over it."""
    choice = choice or Choice()
    plane = planes.read(obj, choice)
    return paint(obj, choice, plane, finished([plane]), over)


def finished(found: Sequence[Plane]) -> tuple[Channel, ...]:
    """Return the channels of planes with colours and windows, alike for all of the planes."""
    values, computed = [plane.values for plane in found], any(plane.computed for plane in found)
    return looks.finished(found[0].channels, values, computed=computed)


def paint(
    obj: Obj,
    choice: Choice,
    plane: Plane,
    channels: tuple[Channel, ...],
    over: LabelStyle | None = None,
    labels: Sequence[LabelPlane] | None = None,
) -> Picture:
    """Return a plane that was read as a `Picture`, labels over it.

    Parameters
    ----------
    obj, choice
        What the plane was read from.
    plane
        The plane.
    channels
        Its channels as they are to look, as `finished` gives them.
    over
        The labels.
    labels
        Those, where they were read, too.
    """
    over = over or LabelStyle()
    if channels:
        pixels = looks.painted(plane.values, channels)
    else:
        pixels = _painted_labels(obj, plane, over)
    for each in _labels(obj, choice, plane, over) if labels is None else labels:
        pixels = render.overlay_labels(
            pixels,
            each.pixels,
            stored=each.colors,
            alpha=over.opacity,
            outline=over.outline,
            selected=over.selected,
        )
    return Picture(pixels, plane.y, plane.x, channels, plane.position)


def _labels(obj: Obj, choice: Choice, plane: Plane, over: LabelStyle) -> Iterator[LabelPlane]:
    """Yield the labels over a plane."""
    projected = choice.projection is not None
    for tree in overlay.label_images(obj, over.labels):
        like = image.levels(obj)[0]
        yield overlay.label_plane(tree, plane.y, plane.x, plane.position, like, projected=projected)


def _painted_labels(obj: Obj, plane: Plane, over: LabelStyle) -> NDArray[np.uint8]:
    """Return a label image in its colours on black."""
    (labels,) = plane.values
    black = np.zeros((*labels.shape, 3), np.uint8)
    return render.overlay_labels(
        black,
        labels,
        stored=image.label_colors(obj),
        alpha=1.0,
        outline=over.outline,
        selected=over.selected,
    )


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
    if not pixels or not affordable or planes.chunk_count(array, plane) * channels > _MOST_CHUNKS:
        return None
    return shrunk(draw(obj, Choice(level=-1, max_pixels=pixels)).rgb, size)


def shrunk(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the picture with blocks of pixels averaged until its longest side fits."""
    factor = math.ceil(max(pixels.shape[:2]) / size)
    if factor == 1:
        return pixels
    rows, columns = (max(n // factor, 1) for n in pixels.shape[:2])
    block_y, block_x = min(factor, pixels.shape[0]), min(factor, pixels.shape[1])
    cut = pixels[: rows * block_y, : columns * block_x]
    blocks = cut.reshape(rows, block_y, columns, block_x, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
