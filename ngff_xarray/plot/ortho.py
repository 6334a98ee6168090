"""Orthogonal views: three planes of a volume through one point, in one scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from ngff_xarray import geometry, image, ops, planes, selection, units
from ngff_xarray.errors import SelectionError, UnitError
from ngff_xarray.image import Obj
from ngff_xarray.picture import LabelStyle, Picture, finished, paint
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings

_THINNEST = 0.06  # of a panel, in widths of the largest


def plot_ortho(obj: Any, choice: Choice, over: LabelStyle, trimmings: Trimmings) -> list[Axes]:
    """Draw the x-y plane, y-z on its right and x-z below it, with the lines where they cut."""
    regions = {dim: at for dim, at in choice.position.items() if isinstance(at, slice)}
    cuts = {dim: at for dim, at in choice.position.items() if dim not in regions}
    if regions:
        obj = selection.crop(obj, regions)
    main, right, below = _pictures(obj, replace(choice, position=cuts), over)
    axes = _axes(main, right, below, trimmings)
    for ax, picture in zip(axes, (main, right, below), strict=True):
        parts.draw_pixels(ax, picture)
    axes[0].set_xlabel("")
    axes[1].set_ylabel("")
    axes[0].tick_params(labelbottom=False)
    axes[1].tick_params(labelleft=False)
    if choice.projection is None:
        _draw_cuts(axes, (main, right, below))
    if trimmings.scale_bar:
        parts.draw_scale_bar(axes[0], main)
    if trimmings.legend and parts.needs_legend(main.channels):
        parts.draw_legend(axes[1], main.channels)
    shown = {str(picture.x.name) for picture in (main, right)} | {str(main.y.name)}
    rest = {dim: at for dim, at in main.position.items() if dim not in shown}
    cut = {} if choice.projection else _cut(main, right, below)
    text = parts.title(obj, {**rest, **cut}, choice.projection)
    parts.set_figure_title(axes[0], text if trimmings.title is None else trimmings.title)
    return axes


def _cut(main: Picture, right: Picture, below: Picture) -> dict[str, float | str]:
    """Return the point that all three planes go through."""
    dims = str(main.x.name), str(main.y.name), str(right.x.name)
    where = right.position, below.position, main.position
    return {dim: at[dim] for dim, at in zip(dims, where, strict=True) if dim in at}


def _pictures(obj: Obj, choice: Choice, over: LabelStyle) -> tuple[Picture, Picture, Picture]:
    arrays = image.levels(obj)
    down, across = image.plane_dims(arrays[0])
    space = [axis.name for axis in image.axes(obj) if axis.type == "space"]
    deep = next((dim for dim in space if dim not in (down, across)), None)
    if deep is None:
        found = ", ".join(map(str, arrays[0].dims))
        raise SelectionError(
            f"an orthogonal view needs three axes of space; the axes of this image are {found}"
        )
    drawn = [(down, across), (down, deep), (deep, across)]
    pixels = parts.pixels_printable(None)
    level = choice.level
    if level is None:
        level = ops.level_number(arrays, max_pixels=pixels)
    choices = []
    for dims in drawn:
        cuts = {dim: at for dim, at in choice.position.items() if dim not in dims}
        choices.append(replace(choice, level=level, position=cuts, dims=dims, max_pixels=pixels))
    read = [planes.read(obj, each) for each in choices]
    looks = finished(read)
    main, right, below = (
        paint(obj, each, plane, looks, over) for each, plane in zip(choices, read, strict=True)
    )
    return main, right, below


def _axes(main: Picture, right: Picture, below: Picture, trimmings: Trimmings) -> list[Axes]:
    """Return the three pairs of axes, in proportion."""
    wide = abs(parts.length(main.x))
    high = wide * parts.proportion(main)
    deep = abs(parts.length(right.x)) * _factor(right.x, main.x)
    deep = max(deep, _THINNEST * max(wide, high))
    scale = parts.WIDTH / max(wide + deep, (high + deep) / 1.4)
    legend = parts.LEGEND if trimmings.legend and parts.needs_legend(main.channels) else 0
    size = (scale * (wide + deep) + 0.9 + legend, scale * (high + deep) + 0.9)
    figure = plt.figure(figsize=size, layout="compressed")
    grid = figure.add_gridspec(2, 2, width_ratios=(wide, deep), height_ratios=(high, deep))
    first = figure.add_subplot(grid[0, 0])
    return [
        first,
        figure.add_subplot(grid[0, 1], sharey=first),
        figure.add_subplot(grid[1, 0], sharex=first),
    ]


def _factor(axis: Any, like: Any) -> float:
    """Return what makes lengths along an axis lengths along another one."""
    try:
        return units.factor(geometry.unit(axis), geometry.unit(like))
    except UnitError:
        return abs(parts.length(like) / parts.length(axis))


def _draw_cuts(axes: list[Axes], pictures: tuple[Picture, Picture, Picture]) -> None:
    """Draw lines where the other two planes cut each one."""
    cut = _cut(*pictures)
    style: dict[str, Any] = {"color": "white", "linewidth": 0.8, "alpha": 0.7, "dashes": (4, 3)}
    for ax, picture in zip(axes, pictures, strict=True):
        for dim, line in ((picture.x.name, ax.axvline), (picture.y.name, ax.axhline)):
            at = cut.get(str(dim))
            if isinstance(at, float):
                line(at, **style)
