"""Pictures by matplotlib: physical axes, a scale bar, the names of the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from ngff_xarray import geometry, image, units
from ngff_xarray.errors import UnitError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.overlay import Labels
from ngff_xarray.picture import Picture, Projection, draw
from ngff_xarray.render import hex_color
from ngff_xarray.text import printable

_WIDTH = 6.0  # inches
_LEGEND = 1.2  # inches that the legend takes
_BAR = 0.25  # the longest scale bar, as a fraction of the picture's width
_OVERSAMPLING = 2  # pixels read a screen pixel, along each axis


def plot(
    obj: Obj,
    *,
    ax: Axes | None = None,
    labels: Labels = None,
    outline: bool = False,
    level: object = None,
    channels: Sequence[str] | str | None = None,
    projection: Projection | None = None,
    scale_bar: bool = True,
    legend: bool = True,
    title: str | None = None,
    **position: Any,
) -> Axes:
    """Draw a plane of an image with physical axes, a scale bar and the channels' names.

    Parameters
    ----------
    ax
        Where to draw; by default in a figure of its own.
    labels
        Label images to draw over it: a name, a list of names, True for all, or a label image.
    outline
        Draw the outlines of labels instead of filling them.
    level
        A level by number or pixel size; by default one as fine as the axes can show.
    channels
        Names of the channels to draw; by default those the store calls active, up to eight.
    projection
        ``"max"``, ``"mean"`` or ``"min"`` over the third axis of space instead of one plane.
    scale_bar, legend
        Whether to draw the scale bar, and the names of the channels.
    title
        By default the image's name and where the plane lies.
    **position
        A position or region an axis, as ``sel`` takes them (``z="3 µm"``). By default the
        store's (``rdefs``), otherwise the middle of space axes and the first of others.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    SelectionError
        If there is no such level, channel, label image, position or region, or too much to read.
    NotOmeError
        If the object is no picture.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> axes = plot(xr.open_datatree(sample("cell")), labels="cell")
    >>> axes.get_title()
    'cell'
    """
    picture = draw(
        obj,
        labels=labels,
        outline=outline,
        level=level,
        channels=channels,
        projection=projection,
        max_pixels=_pixels_printable(ax),
        position=position,
    )
    if ax is None:
        ax = _new_axes(picture, beside=_LEGEND if legend and _needs_legend(picture.channels) else 0)
    _draw_pixels(ax, picture)
    if scale_bar:
        _draw_scale_bar(ax, picture)
    if legend and _needs_legend(picture.channels):
        _draw_legend(ax, picture.channels)
    ax.set_title(_title(obj, picture, projection) if title is None else title, parse_math=False)
    return ax


def _pixels_printable(ax: Axes | None) -> int:
    """Return how many pixels of an image the axes are worth reading."""
    if ax is None:
        inches, dpi = _WIDTH**2, plt.rcParams["figure.dpi"]
        return math.ceil(inches * (float(dpi) * _OVERSAMPLING) ** 2)
    box = ax.get_window_extent()
    return math.ceil(max(box.width * box.height, 1) * _OVERSAMPLING**2)


def _new_axes(picture: Picture, beside: float) -> Axes:
    """Return axes in a figure of about the picture's proportions, and inches beside it."""
    left, right, bottom, top = _extent(picture)
    aspect = abs(top - bottom) * _aspect(picture) / abs(right - left)
    height = _WIDTH * min(max(aspect, 0.25), 1.5)
    _, ax = plt.subplots(figsize=(_WIDTH + beside, height + 0.3), layout="constrained")
    return ax


def _extent(picture: Picture) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of the picture in the units of its axes."""
    y, x = geometry.edges(picture.y), geometry.edges(picture.x)
    return float(x[0]), float(x[-1]), float(y[-1]), float(y[0])


def _aspect(picture: Picture) -> float:
    """Return how long a unit of y is in units of x."""
    try:
        return units.factor(geometry.unit(picture.y), geometry.unit(picture.x))
    except UnitError:  # time against space, say: there is no right proportion
        return abs(_length(picture.x) / _length(picture.y))


def _length(axis: xr.DataArray) -> float:
    bounds = geometry.edges(axis)
    return float(bounds[-1] - bounds[0])


def _draw_pixels(ax: Axes, picture: Picture) -> None:
    ax.imshow(
        picture.rgb,
        extent=_extent(picture),
        aspect=_aspect(picture),
        origin="upper",
        interpolation_stage="rgba",
    )
    ax.set_xlabel(_axis_label(picture.x), parse_math=False)
    ax.set_ylabel(_axis_label(picture.y), parse_math=False)


def _axis_label(axis: xr.DataArray) -> str:
    name = printable(axis.attrs.get("long_name", axis.name))
    unit = geometry.unit(axis)
    if unit is None:
        return name if "pixel_size" in axis.attrs else f"{name} [pixels]"
    return f"{name} [{units.symbol(unit)}]"


def _title(obj: Obj, picture: Picture, projection: Projection | None) -> str:
    axes = {axis.name: axis for axis in image.axes(obj)}
    parts = [printable(image.name(obj))] if image.name(obj) else []
    for dim, where in picture.position.items():
        unit = axes[dim].unit
        place = printable(where) if isinstance(where, str) else f"{where:.4g}"
        parts.append(f"{printable(dim)} {place}{' ' + units.symbol(unit) if unit else ''}")
    if projection is not None:
        parts.append(f"{projection} projection")
    return " · ".join(parts)


def _draw_scale_bar(ax: Axes, picture: Picture) -> None:
    unit = geometry.unit(picture.x)
    if unit is None:
        return
    width = abs(_length(picture.x))
    length, text = scale_bar(width * _BAR, unit)
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        text,
        loc="lower right",
        pad=0.4,
        borderpad=0.4,
        sep=4,
        frameon=False,
        color="white",
        size_vertical=width / 150 / _aspect(picture),
        fontproperties=FontProperties(size="medium", weight="bold"),
    )
    for artist in (*bar.size_bar.get_children(), *bar.txt_label.get_children()):
        artist.set_path_effects([withStroke(linewidth=2, foreground="black")])
    ax.add_artist(bar)


def scale_bar(longest: float, unit: str) -> tuple[float, str]:
    """Return the length of a scale bar and its text: 1, 2 or 5 of a unit that reads well.

    Parameters
    ----------
    longest
        What it may reach, in ``unit``.
    unit
        The specification's name of the unit.

    Returns
    -------
    length, text
        The length in ``unit``.

    Examples
    --------
    >>> scale_bar(14.7, "micrometer"), scale_bar(0.3, "millimeter")
    ((10.0, '10 µm'), (0.2, '200 µm'))
    """
    shown_unit, factor = units.readable(longest, unit)
    reach = longest * factor
    power = 10.0 ** math.floor(math.log10(reach))
    step = max(n for n in (1, 2, 5) if n * power <= reach * (1 + 1e-9))
    return step * power / factor, f"{step * power:g} {units.symbol(shown_unit)}"


def _draw_legend(ax: Axes, channels: Sequence[Channel]) -> None:
    patches = [
        Patch(
            facecolor=hex_color(channel.color or (255, 255, 255)),
            edgecolor="gray",
            linewidth=0.5,
            label=_legend_text(channel),
        )
        for channel in channels
    ]
    box = ax.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        handlelength=1,
        handleheight=1,
    )
    for text in box.get_texts():
        text.set_parse_math(False)


def _needs_legend(channels: Sequence[Channel]) -> bool:
    return len(channels) > 1 or any(_is_named(channel) for channel in channels)


def _is_named(channel: Channel) -> bool:
    return not channel.name.isdigit()


def _legend_text(channel: Channel) -> str:
    # matplotlib leaves out labels that start with an underscore
    name = printable(channel.name, 30)
    return name if _is_named(channel) and not name.startswith("_") else f"channel {name}"
