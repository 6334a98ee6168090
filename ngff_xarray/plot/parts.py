"""The parts of a figure: axes in units, scale bars, legends, titles, grids of panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from ngff_xarray import channels as looks
from ngff_xarray import geometry, image, units
from ngff_xarray.errors import UnitError
from ngff_xarray.image import Obj
from ngff_xarray.model import Channel
from ngff_xarray.picture import Picture
from ngff_xarray.render import Projection, hex_color
from ngff_xarray.text import printable

WIDTH = 6.0  # inches
LEGEND = 1.2  # inches that the legend takes
_BAR = 0.25  # the longest scale bar, as a fraction of the picture's width
_OVERSAMPLING = 2  # pixels read a screen pixel, along each axis
_SHADES = 12  # patches that show a colormap in a legend


@dataclass(frozen=True, slots=True)
class Trimmings:
    """What stands around a picture: a scale bar, the channels' names, a title."""

    scale_bar: bool = True
    legend: bool = True
    title: str | None = None


def pixels_printable(ax: Axes | None, share: float = 1.0) -> int:
    """Return how many pixels the axes, or a share of a figure of ours, are worth reading."""
    if ax is None:
        inches, dpi = WIDTH**2 * share, plt.rcParams["figure.dpi"]
        return math.ceil(inches * (float(dpi) * _OVERSAMPLING) ** 2)
    box = ax.get_window_extent()
    return math.ceil(max(box.width * box.height, 1) * _OVERSAMPLING**2)


# ---- axes ------------------------------------------------------------------------------------


def new_axes(picture: Picture, beside: float) -> Axes:
    """Return axes in a figure of about the picture's proportions, and inches beside it."""
    height = WIDTH * min(max(proportion(picture), 0.25), 1.5)
    _, ax = plt.subplots(figsize=(WIDTH + beside, height + 0.3), layout="constrained")
    return ax


def grid(count: int, height: float, *, beside: float = 0, most: int = 4) -> list[Axes]:
    """Return axes for some panels, in rows, in a figure of their proportions.

    Parameters
    ----------
    count
        How many panels.
    height
        Of a panel, in widths of it.
    beside
        Inches for a legend.
    most
        Panels that stand beside each other at most.
    """
    height = min(max(height, 0.25), 3)
    columns = min(count, most, max(2, round(math.sqrt(count * height * 1.8))))
    rows = math.ceil(count / columns)
    width = (WIDTH + 2) / max(columns, 2)
    size = (width * columns + beside, (width * height + 0.35) * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    flat = list(axes.flat)
    for ax in flat[count:]:
        figure.delaxes(ax)
    return flat[:count]


def proportion(picture: Picture) -> float:
    """Return the height of a picture in widths of it."""
    left, right, bottom, top = extent(picture)
    return abs(top - bottom) * aspect(picture) / abs(right - left)


def extent(picture: Picture) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of the picture in the units of its axes."""
    y, x = geometry.edges(picture.y), geometry.edges(picture.x)
    return float(x[0]), float(x[-1]), float(y[-1]), float(y[0])


def aspect(picture: Picture) -> float:
    """Return how long a unit of y is in units of x."""
    try:
        return units.factor(geometry.unit(picture.y), geometry.unit(picture.x))
    except UnitError:  # time against space, say: there is no right proportion
        return abs(length(picture.x) / length(picture.y))


def length(axis: xr.DataArray) -> float:
    """Return how far an axis reaches, in its unit."""
    bounds = geometry.edges(axis)
    return float(bounds[-1] - bounds[0])


def draw_pixels(ax: Axes, picture: Picture) -> None:
    """Draw a picture in place, and say what the axes are."""
    ax.imshow(
        picture.rgb,
        extent=extent(picture),
        aspect=aspect(picture),
        origin="upper",
        interpolation_stage="rgba",
    )
    ax.set_xlabel(axis_label(picture.x), parse_math=False)
    ax.set_ylabel(axis_label(picture.y), parse_math=False)


def axis_label(axis: xr.DataArray) -> str:
    """Return name and unit of an axis."""
    name = printable(axis.attrs.get("long_name", axis.name))
    unit = geometry.unit(axis)
    if unit is None:
        return name if "pixel_size" in axis.attrs else f"{name} [pixels]"
    return f"{name} [{units.symbol(unit)}]"


# ---- titles ----------------------------------------------------------------------------------


def set_title(ax: Axes, text: str, **options: Any) -> None:
    """Set a title, whose text is no formula whatever it holds."""
    ax.set_title(text, parse_math=False, **options)


def set_figure_title(ax: Axes, text: str) -> None:
    """Set the title of the figure that axes are in."""
    figure = ax.get_figure(root=True)
    if text and figure is not None:
        figure.suptitle(text).set_parse_math(False)


def title(obj: Obj, position: Mapping[str, Any], projection: Projection | None = None) -> str:
    """Return the image's name, where a plane lies, and how it was projected."""
    parts = [printable(image.name(obj))] if image.name(obj) else []
    parts += [place(obj, dim, where) for dim, where in position.items()]
    if projection is not None:
        parts.append(f"{projection} projection")
    return " · ".join(parts)


def place(obj: Obj, dim: str, where: float | str) -> str:
    """Return a position on an axis as people read it: ``z 3 µm``."""
    unit = next((axis.unit for axis in image.axes(obj) if axis.name == dim), None)
    if isinstance(where, str):
        return f"{printable(dim)} {printable(where)}"
    return f"{printable(dim)} {where:.4g}{' ' + units.symbol(unit) if unit else ''}"


# ---- scale bars ------------------------------------------------------------------------------


def draw_scale_bar(
    ax: Axes, picture: Picture, *, share: float = _BAR, size: str = "medium"
) -> None:
    """Draw a scale bar into a picture, where its axis is a length that has a unit."""
    unit = geometry.unit(picture.x)
    if unit is None:
        return
    width = abs(length(picture.x))
    long, text = scale_bar(width * share, unit)
    color, around = _bar_colors(picture)
    bar = AnchoredSizeBar(
        ax.transData,
        long,
        text,
        loc="lower right",
        pad=0.4,
        borderpad=0.4,
        sep=4,
        frameon=False,
        color=color,
        size_vertical=width / 150 / aspect(picture),
        fontproperties=FontProperties(size=size, weight="bold"),
    )
    for artist in (*bar.size_bar.get_children(), *bar.txt_label.get_children()):
        artist.set_path_effects([withStroke(linewidth=2, foreground=around)])
    ax.add_artist(bar)


def _bar_colors(picture: Picture) -> tuple[str, str]:
    """Return a colour that is seen in the lower right of a picture, and one around it."""
    rows, columns = (3 * n // 4 for n in picture.rgb.shape[:2])
    bright = picture.rgb[rows:, columns:].mean() > 160
    return ("black", "white") if bright else ("white", "black")


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


# ---- legends ---------------------------------------------------------------------------------


def draw_legend(ax: Axes, channels: Sequence[Channel]) -> None:
    """Write the names of the channels beside the axes."""
    box = ax.legend(
        handles=[_handle(channel) for channel in channels],
        labels=[channel_text(channel) for channel in channels],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        handlelength=1 if all(channel.colormap is None for channel in channels) else 2,
        handleheight=1,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )
    for text in box.get_texts():
        text.set_parse_math(False)


def _handle(channel: Channel) -> Any:
    """Return what stands for a channel: a patch of its colour, or a row of its colormap's."""
    if channel.colormap is None:
        color = hex_color(channel.color or (255, 255, 255))
        return Patch(facecolor=color, edgecolor="gray", linewidth=0.5)
    shades = looks.table(channel.colormap)[np.linspace(0, 255, _SHADES).astype(int)]
    return tuple(Patch(facecolor=shade / 255, linewidth=0) for shade in shades)


_TRUE_COLOR = [("red", (255, 0, 0)), ("green", (0, 255, 0)), ("blue", (0, 0, 255))]


def needs_legend(channels: Sequence[Channel]) -> bool:
    """Tell whether the channels have names worth saying: those of a colour picture have not."""
    if [(channel.name.lower(), channel.color) for channel in channels] == _TRUE_COLOR:
        return False
    return len(channels) > 1 or any(_is_named(channel) for channel in channels)


def _is_named(channel: Channel) -> bool:
    return not channel.name.isdigit()


def channel_text(channel: Channel) -> str:
    """Return what a channel is called in a picture."""
    # matplotlib leaves out labels that start with an underscore
    name = printable(channel.name, 30)
    return name if _is_named(channel) and not name.startswith("_") else f"channel {name}"
