"""One picture in one pair of axes."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.axes import Axes

from ngff_xarray.image import Obj
from ngff_xarray.picture import LabelStyle, Picture, draw
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings


def plot_single(
    obj: Obj, ax: Axes | None, choice: Choice, over: LabelStyle, trimmings: Trimmings
) -> Axes:
    """Draw a plane of an image."""
    picture = draw(obj, replace(choice, max_pixels=parts.pixels_printable(ax)), over)
    text = parts.title(obj, picture.position, choice.projection)
    return draw_picture(picture, ax, trimmings, text)


def draw_picture(picture: Picture, ax: Axes | None, trimmings: Trimmings, text: str) -> Axes:
    """Draw a picture with all that stands around it."""
    legend = trimmings.legend and parts.needs_legend(picture.channels)
    if ax is None:
        ax = parts.new_axes(picture, beside=parts.LEGEND if legend else 0)
    parts.draw_pixels(ax, picture)
    if trimmings.scale_bar:
        parts.draw_scale_bar(ax, picture)
    if legend:
        parts.draw_legend(ax, picture.channels)
    parts.set_title(ax, text if trimmings.title is None else trimmings.title)
    return ax
