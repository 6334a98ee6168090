"""Pictures along an axis: which positions, and each of them in the same colours and contrast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import channels, geometry, image, planes, selection
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.picture import LabelStyle, Picture, finished, paint
from ngff_xarray.planes import Choice

_LOOKED_AT = 8  # planes that the contrast of many is found from


def places(obj: Obj, dim: str, choice: Choice, most: int) -> tuple[list[float | str], int]:
    """Return positions along an axis, at most so many and evenly chosen, and how many there are.

    Raises
    ------
    SelectionError
        If there is no such axis, or it is drawn or projected already.
    """
    array = image.levels(obj)[0]
    planes.check_drawable(array, choice.dims)
    drawn = choice.dims or image.plane_dims(array)
    free = [str(each) for each in array.dims if each not in drawn]
    if dim not in free:
        known = ", ".join(free) or "none"
        raise SelectionError(f"there is no axis {dim!r} to go along; those not drawn are {known}")
    if most < 1:
        raise SelectionError(f"the number of panels or frames is {most}; expected 1 or more")
    space = {axis.name for axis in image.axes(array) if axis.type == "space"}
    if choice.projection is not None and dim in space:
        raise SelectionError(f"{dim}: either a {choice.projection} projection or each position")
    if dim == image.channel_dim(array):
        found: list[Any] = _channel_names(array, obj, choice)
    else:
        found = _along(array, dim, choice)
    indices = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    return [found[i] for i in indices], len(found)


def _channel_names(array: xr.DataArray, obj: Obj, choice: Choice) -> list[str]:
    """Return the channels to go along: all of them, unless some are asked for."""
    stored = channels.stored(array, obj)
    if choice.channels is None:
        return [channel.name for channel in stored]
    return [stored[i].name for i in channels.chosen(stored, choice.channels)[0]]


def _along(array: xr.DataArray, dim: str, choice: Choice) -> list[float | str]:
    """Return the positions on an axis, of the region that is asked for."""
    coordinate = array[dim]
    if dim in choice.position:
        part = selection.positions(array, {dim: choice.position[dim]})[dim]
        coordinate = coordinate.isel({dim: part if isinstance(part, slice) else [part]})
    if geometry.is_numeric(coordinate):
        return [float(value) for value in geometry.numbers(coordinate)]
    return [str(value) for value in coordinate.values]


def at_place(obj: Obj, dim: str, where: float | str, choice: Choice) -> Choice:
    """Return what to draw at a position on an axis; on that of channels, the channel alone."""
    if dim != image.channel_dim(image.levels(obj)[0]):
        return replace(choice, position={**choice.position, dim: where})
    asked, name = choice.channels, str(where)
    if isinstance(asked, Mapping):
        return replace(choice, channels={name: asked[name]})
    several = asked if isinstance(asked, list | tuple) else [asked]
    same = [each for each in several if isinstance(each, Channel) and each.name == name]
    return replace(choice, channels=same or [name])


def pictures(
    obj: Obj, dim: str, positions: Sequence[float | str], choice: Choice, over: LabelStyle
) -> Iterator[Picture]:
    """Yield the picture at each position; all but channels in the same colours and contrast.

    No more than a few planes are in memory at a time.
    """
    choices = [at_place(obj, dim, where, choice) for where in positions]
    alike = dim != image.channel_dim(image.levels(obj)[0])
    count = min(_LOOKED_AT, len(choices))
    some = np.unique(np.linspace(0, len(choices) - 1, count).round().astype(int))
    read = {int(i): planes.read(obj, choices[i]) for i in some} if alike else {}
    looks = finished(list(read.values())) if read else None
    for i, each in enumerate(choices):
        plane = read.pop(i) if i in read else planes.read(obj, each)
        yield paint(obj, each, plane, finished([plane]) if looks is None else looks, over)
