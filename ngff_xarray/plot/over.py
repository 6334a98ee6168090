"""Images over one another: each where its transformations place it in a common system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ngff_xarray import geometry, image, ops, planes, units, world
from ngff_xarray.channels import stored
from ngff_xarray.errors import SelectionError, UnitError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.picture import LabelStyle, Picture, finished, paint
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.plot.single import draw_picture
from ngff_xarray.text import printable

_MOST_READ = 2**26  # pixels of a plane


def plot_over(
    obj: Obj,
    others: Sequence[Obj],
    opacities: Sequence[float],
    system: str | None,
    ax: Axes | None,
    choice: Choice,
    over: LabelStyle,
    trimmings: Trimmings,
) -> Axes:
    """Draw images over one another in a coordinate system that all of them are connected with.

    The picture reaches as far as the images do. Where one has no pixels, those below are seen.
    """
    layers = [obj, *others]
    first, *rest = _choices(layers, choice)
    names = [_system(layer, system, obj) for layer in layers]
    grid = _grid(layers, names, first, parts.pixels_printable(ax))
    whole: NDArray[Any] = np.zeros((grid.y.size, grid.x.size, 3), np.float32)
    channels: list[Channel] = []
    styles = [over, *(LabelStyle() for _ in others)]
    shown = zip(layers, names, (1.0, *opacities), (first, *rest), styles, strict=True)
    for layer, name, opacity, asked, style in shown:
        picture, covered = _layer(layer, name, grid, asked, style)
        share = (opacity * covered)[..., np.newaxis].astype(np.float32)
        whole += share * (picture.rgb - whole)
        channels += _named(layer, picture.channels)
    pixels = np.rint(whole).astype(np.uint8)
    drawn = Picture(pixels, grid.y, grid.x, tuple(channels), grid.position)
    titles = [printable(image.name(layer) or "", 30) for layer in layers]
    text = " + ".join(filter(None, titles))
    where = [parts.place(obj, dim, at) for dim, at in grid.position.items()]
    return draw_picture(drawn, ax, trimmings, " · ".join(filter(None, (text, *where))))


def _choices(layers: Sequence[Obj], choice: Choice) -> list[Choice]:
    """Return what to draw of each image: a mapping may name channels of all, as the legend does.

    What none of the others has is the first one's.
    """
    others = [Choice(projection=choice.projection) for _ in layers[1:]]
    asked = choice.channels
    if not isinstance(asked, Mapping):
        return [choice, *others]
    first, *rest = [_own_names(layer, asked) for layer in layers]
    theirs = {name for found in rest for name in found.values()} - set(first.values())
    renamed = {name: own for own, name in first.items()}
    left = {renamed.get(name, name): look for name, look in asked.items() if name not in theirs}
    for i, found in enumerate(rest):
        looks = {own: asked[name] for own, name in found.items()}
        others[i] = replace(others[i], channels=looks or None)
    return [replace(choice, channels=left or None), *others]


def _own_names(layer: Obj, wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return the channels of an image that are wanted, and by what name."""
    own = stored(image.levels(layer)[0], layer)
    found: dict[str, str] = {}
    for channel, named in zip(own, _named(layer, own), strict=True):
        names = [name for name in (channel.name, named.name) if name != "0" and name in wanted]
        if names:
            found[channel.name] = names[0]
    return found


def _named(layer: Obj, channels: Sequence[Channel]) -> list[Channel]:
    """Return channels that are called after their image too, for a legend of several."""
    name = image.name(layer)
    if not name:
        return list(channels)
    return [replace(c, name=f"{name} {c.name}" if c.name != "0" else name) for c in channels]


def _system(layer: Obj, wanted: str | None, first: Obj) -> str:
    """Return the system to draw an image in: the one wanted, or that of the first image."""
    current = world.current_system(layer)
    if wanted is not None:
        return wanted
    name = world.current_system(first)
    return name if name in world.coordinate_systems(layer) else current


# ---- the grid that all are drawn on ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Grid:
    """The pixels of a picture in a common system: their coordinates, and where the plane lies."""

    y: xr.DataArray
    x: xr.DataArray
    position: dict[str, float | str]

    def like(self) -> xr.DataArray:
        """Return an image that has this grid."""
        shape = (self.y.size, self.x.size)
        dims = (str(self.y.name), str(self.x.name))
        numbers = {dim: at for dim, at in self.position.items() if not isinstance(at, str)}
        coords = {dims[0]: self.y, dims[1]: self.x, **numbers}
        return xr.DataArray(np.broadcast_to(np.uint8(0), shape), dims=dims, coords=coords)


def _grid(layers: Sequence[Obj], names: Sequence[str], choice: Choice, max_pixels: int) -> _Grid:
    """Return a grid over all images, in the finest of their pixels that fit."""
    placed = [
        world.resample(layer, system=name, level=-1)
        for layer, name in zip(layers, names, strict=True)
    ]
    finest = [
        world.resample(layer, system=name, level=0)
        for layer, name in zip(layers, names, strict=True)
    ]
    first = finest[0]
    planes.check_drawable(first)
    down, right = image.plane_dims(first)
    ends = {}
    for dim in (down, right):
        regions = choice.position.get(dim)
        like = first[dim]
        spans = [_span(array, dim, like) for array in placed]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        if isinstance(regions, slice):
            bounds = [
                None if b is None else geometry.position(b, like)
                for b in (regions.start, regions.stop)
            ]
            low = low if bounds[0] is None else bounds[0]
            high = high if bounds[1] is None else bounds[1]
        if not low < high:
            raise SelectionError(f"{dim}: the region from {low:g} to {high:g} is empty")
        ends[dim] = (low, high)
    sizes = {dim: min(_pixel_size(array, dim, first[dim]) for array in finest) for dim in ends}
    count = math.prod((ends[dim][1] - ends[dim][0]) / sizes[dim] for dim in ends)
    factor = max(1.0, math.sqrt(count / max_pixels))
    for array in placed:
        _check_size(array, ends, first)
    y, x = (_even(first[dim], *ends[dim], sizes[dim] * factor) for dim in (down, right))
    rest = {dim: at for dim, at in choice.position.items() if dim not in ends}
    position = planes.positions(first, rest, {down, right})
    return _Grid(y, x, position)


def _check_size(
    array: xr.DataArray, ends: Mapping[str, tuple[float, float]], like: xr.DataArray
) -> None:
    """Refuse an image whose coarsest level has far more pixels in a region than a picture."""
    pixels = 1.0
    for dim, (low, high) in ends.items():
        first, last = _span(array, dim, like[dim])
        pixels *= array.sizes[dim] * min(1, (high - low) / (last - first))
    if pixels > _MOST_READ:
        down, right = ends
        raise SelectionError(
            f"an image would be read in {pixels:,.0f} pixels, more than {_MOST_READ:,}, for it has "
            f"no coarser level: draw a region, with {down}=slice(…) and {right}=slice(…)"
        )


def _span(array: xr.DataArray, dim: str, like: xr.DataArray) -> tuple[float, float]:
    """Return from where to where an image reaches along an axis, in the unit of another."""
    if dim not in array.dims:
        found = ", ".join(map(str, array.dims))
        raise SelectionError(f"an image to be drawn over another has no axis {dim!r}, only {found}")
    try:
        factor = units.factor(geometry.unit(array[dim]), geometry.unit(like))
    except UnitError as error:
        raise SelectionError(
            f"axis {dim!r} of an image to be drawn over another: {error}"
        ) from error
    bounds = geometry.edges(array[dim]) * factor
    return float(np.min(bounds)), float(np.max(bounds))


def _pixel_size(array: xr.DataArray, dim: str, like: xr.DataArray) -> float:
    """Return how large pixels of an image are along an axis, in the unit of another."""
    factor = units.factor(geometry.unit(array[dim]), geometry.unit(like))
    return (geometry.pixel_size(array[dim]) or 1.0) * factor


def _even(like: xr.DataArray, low: float, high: float, size: float) -> xr.DataArray:
    count = max(1, math.ceil((high - low) / size - 1e-6))
    values = low + size * (np.arange(count) + 0.5)
    attrs = {**like.attrs, "pixel_size": size}
    variable = xr.Variable(str(like.name), values, attrs)
    return xr.DataArray(variable, coords={like.name: variable}, name=like.name)[like.name]


# ---- an image on the grid --------------------------------------------------------------------


def _layer(
    layer: Obj, name: str, grid: _Grid, choice: Choice, over: LabelStyle
) -> tuple[Picture, NDArray[np.bool_]]:
    """Return an image on the grid, and where it has pixels."""
    here = world.resample(layer, system=name, like=grid.like())
    there = world.resample(_filled(layer), system=name, like=grid.like(), fill=0, method="nearest")
    down, right = str(grid.y.name), str(grid.x.name)
    drawn = (down, right)
    known = [dim for dim in choice.position if dim in here.dims and dim not in drawn]
    own = replace(
        choice,
        level=None,
        max_pixels=grid.y.size * grid.x.size * 4,
        position={dim: choice.position[dim] for dim in known},
        dims=drawn,
    )
    plane = planes.read(here, own)
    flat = {dim: 0 for dim in there.dims if dim not in drawn}
    covered = there.isel(flat).transpose(*drawn).values != 0
    # what fills the rest must not count for the contrast
    inside = replace(plane, values=tuple(values[covered] for values in plane.values))
    picture = paint(here, own, plane, finished([inside]), over)
    if image.kind(layer) == "labels":
        covered = covered & (plane.values[0] != 0)
    return picture, covered


def _filled(layer: Obj) -> Obj:
    """Return an image of ones in the place of another, that takes no memory."""

    def ones(array: xr.DataArray) -> xr.DataArray:
        return array.copy(data=np.broadcast_to(np.uint8(1), array.shape))

    if isinstance(layer, xr.DataTree):
        return ops.map_levels(layer, ones)
    return ones(image.levels(layer)[0])
