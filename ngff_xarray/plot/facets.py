"""Panels along an axis: the channels, planes or times of an image beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ngff_xarray import channels, geometry, image, planes, selection
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.picture import LabelStyle, Picture, finished, paint
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.text import printable

PANELS = 12


def plot_facets(
    obj: Obj,
    facet: str,
    choice: Choice,
    over: LabelStyle,
    trimmings: Trimmings,
    most: int = PANELS,
) -> list[Axes]:
    """Draw a panel for each position on an axis, or for as many as are wanted, evenly chosen."""
    positions, count = places(obj, facet, choice, most)
    choice = replace(choice, max_pixels=parts.pixels_printable(None, 1.8 / len(positions)))
    pictures = _pictures(obj, facet, choice, over, positions)
    shown = () if facet == image.channel_dim(image.levels(obj)[0]) else pictures[0].channels
    legend = trimmings.legend and parts.needs_legend(shown)
    height = parts.proportion(pictures[0])
    axes = parts.grid(len(pictures), height, beside=parts.LEGEND if legend else 0)
    for ax, picture, where in zip(axes, pictures, positions, strict=True):
        parts.draw_pixels(ax, picture)
        parts.set_title(ax, panel_title(obj, facet, where), fontsize="medium")
        ax.label_outer()
    if trimmings.scale_bar:
        parts.draw_scale_bar(axes[-1], pictures[-1], share=0.4, size="small")
    if legend:
        parts.draw_legend(_top_right(axes), shown)
    figure = axes[0].figure
    rest = {dim: at for dim, at in pictures[0].position.items() if dim != facet}
    text = parts.title(obj, rest, choice.projection)
    if count > len(positions):
        text += f"{' · ' if text else ''}{len(positions)} of {count} {printable(facet)}"
    text = text if trimmings.title is None else trimmings.title
    if text:
        figure.suptitle(text).set_parse_math(False)
    return axes


def _top_right(axes: Sequence[Axes]) -> Axes:
    """Return the last panel of the first row."""
    spec = [ax.get_subplotspec() for ax in axes]
    return [ax for ax, at in zip(axes, spec, strict=True) if at is None or at.rowspan.start == 0][
        -1
    ]


def panel_title(obj: Obj, dim: str, where: float | str) -> str:
    """Return where a panel lies; of channels and other named positions, the name alone."""
    return printable(where) if isinstance(where, str) else parts.place(obj, dim, where)


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
    free = [str(d) for d in array.dims if d not in drawn]
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


def _channel_names(array: Any, obj: Obj, choice: Choice) -> list[str]:
    """Return the channels to go along: all of them, unless some are asked for."""
    stored = channels.stored(array, obj)
    if choice.channels is None:
        return [channel.name for channel in stored]
    return [stored[i].name for i in channels.chosen(stored, choice.channels)[0]]


def _along(array: Any, dim: str, choice: Choice) -> list[Any]:
    """Return the positions on an axis, of the region that is asked for."""
    coordinate = array[dim]
    if dim in choice.position:
        part = selection.positions(array, {dim: choice.position[dim]})[dim]
        coordinate = coordinate.isel({dim: part if isinstance(part, slice) else [part]})
    numeric = geometry.is_numeric(coordinate)
    values = geometry.numbers(coordinate) if numeric else coordinate.values
    return [float(value) if numeric else str(value) for value in values]


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


def _pictures(
    obj: Obj, facet: str, choice: Choice, over: LabelStyle, positions: Sequence[float | str]
) -> list[Picture]:
    """Return the pictures of all panels, in the same colours and contrast but for channels."""
    choices = [at_place(obj, facet, where, choice) for where in positions]
    read = [planes.read(obj, each) for each in choices]
    if facet == image.channel_dim(image.levels(obj)[0]):
        each_look = [finished([plane]) for plane in read]
    else:
        each_look = [finished(read)] * len(read)
    return [
        paint(obj, each, plane, looks, over)
        for each, plane, looks in zip(choices, read, each_look, strict=True)
    ]
