"""Panels along an axis: the channels, planes or times of an image beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes

from ngff_xarray import along, image
from ngff_xarray.image import Obj
from ngff_xarray.picture import LabelStyle
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.text import printable

PANELS = 12


def plot_facets(
    obj: Obj, facet: str, choice: Choice, over: LabelStyle, trimmings: Trimmings, most: int
) -> list[Axes]:
    """Draw a panel for each position on an axis, or for as many as are wanted, evenly chosen."""
    positions, count = along.places(obj, facet, choice, most)
    choice = replace(choice, max_pixels=parts.pixels_printable(None, 1.8 / len(positions)))
    pictures = list(along.pictures(obj, facet, positions, choice, over))
    is_channel = facet == image.channel_dim(image.levels(obj)[0])
    shown = () if is_channel else pictures[0].channels
    legend = trimmings.legend and parts.needs_legend(shown)
    height = parts.proportion(pictures[0])
    axes = parts.grid(len(pictures), height, beside=parts.LEGEND if legend else 0)
    for ax, picture, where in zip(axes, pictures, positions, strict=True):
        parts.draw_pixels(ax, picture)
        text = printable(where) if isinstance(where, str) else parts.place(obj, facet, where)
        parts.set_title(ax, text, fontsize="medium")
        ax.label_outer()
    if trimmings.scale_bar:
        parts.draw_scale_bar(axes[-1], pictures[-1], share=0.4, size="small")
    if legend:
        parts.draw_legend(top_right(axes), shown)
    rest = {dim: at for dim, at in pictures[0].position.items() if dim != facet}
    text = parts.title(obj, rest, choice.projection)
    if count > len(positions):
        text += f"{' · ' if text else ''}{len(positions)} of {count} {printable(facet)}"
    parts.set_figure_title(axes[0], text if trimmings.title is None else trimmings.title)
    return axes


def top_right(axes: Sequence[Axes]) -> Axes:
    """Return the last panel of the first row."""
    places = [(ax, ax.get_subplotspec()) for ax in axes]
    return [ax for ax, at in places if at is None or at.rowspan.start == 0][-1]
