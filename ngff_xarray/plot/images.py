"""The images of a well, a collection or a scene beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ngff_xarray import geometry, groups, image
from ngff_xarray.alike import Read, read_images
from ngff_xarray.errors import SelectionError
from ngff_xarray.mosaic import common_looks
from ngff_xarray.picture import LabelStyle, Picture, paint
from ngff_xarray.planes import Choice
from ngff_xarray.plot import parts
from ngff_xarray.plot.facets import top_right
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.text import printable


def plot_images(
    tree: xr.DataTree, choice: Choice, over: LabelStyle, trimmings: Trimmings, most: int
) -> list[Axes]:
    """Draw a panel for each image, or for as many as are wanted, evenly chosen."""
    is_well = image.group_kind(tree) == "well"
    found = groups.fields(tree) if is_well else groups.images(tree)
    if not found or most < 1:
        raise SelectionError("there is no image in it: there is nothing to draw")
    count = len(found)
    indices = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    shown = [list(found.items())[i] for i in indices]
    choice = replace(choice, max_pixels=parts.pixels_printable(None, 1.8 / len(shown)))
    read = read_images([_opener(node) for _, node in shown], choice)
    planes = [result.plane for result in read if isinstance(result, Read)]
    if not planes:
        raise next(result for result in read if isinstance(result, Exception))
    looks = common_looks(planes)
    pictures = [
        paint(result.tree, choice, result.plane, looks(result.plane), over)
        if isinstance(result, Read)
        else result
        for result in read
    ]
    drawn = [picture for picture in pictures if isinstance(picture, Picture)]
    same = len({_look(picture) for picture in drawn}) == 1
    legend = trimmings.legend and same and parts.needs_legend(drawn[0].channels)
    height = float(np.median([parts.proportion(picture) for picture in drawn]))
    axes = parts.grid(len(pictures), height, beside=parts.LEGEND if legend else 0)
    for ax, (path, node), picture in zip(axes, shown, pictures, strict=True):
        _draw_panel(ax, picture, _caption(path, node))
    if trimmings.scale_bar:
        _draw_scale_bars(axes, pictures)
    if legend:
        parts.draw_legend(top_right(axes), drawn[0].channels)
    parts.set_figure_title(
        axes[0], _title(tree, len(shown), count) if trimmings.title is None else trimmings.title
    )
    return axes


def _look(picture: Picture) -> tuple[Any, ...]:
    """Return what a legend says of the channels of a picture."""
    return tuple((channel.name, channel.color, channel.colormap) for channel in picture.channels)


def _opener(node: xr.DataTree) -> Any:
    return lambda: node


def _draw_panel(ax: Axes, picture: Picture | Exception | None, caption: str) -> None:
    parts.set_title(ax, caption, fontsize="medium")
    if isinstance(picture, Picture):
        parts.draw_pixels(ax, picture)
        ax.tick_params(labelsize="small")
        return
    ax.set(xticks=[], yticks=[])
    text = f"cannot be read:\n{printable(picture, 90)}"
    ax.text(
        0.5, 0.5, text, ha="center", va="center", wrap=True, fontsize="small", color="firebrick",
        transform=ax.transAxes, parse_math=False,
    )  # fmt: skip


def _caption(path: str, node: xr.DataTree) -> str:
    name = image.name(node)
    same = name is None or name in (path, path.rpartition("/")[2])
    return printable(path, 30) if same else f"{printable(path, 12)}: {printable(name, 24)}"


def _title(tree: xr.DataTree, shown: int, count: int) -> str:
    said = tree.attrs.get("ome", {})
    place = "/".join(printable(said[key], 12) for key in ("row", "column") if key in said)
    parts_ = [f"well {place}"] if place else []
    return " · ".join(parts_ + ([f"{shown} of {count} images"] if shown < count else []))


def _draw_scale_bars(axes: Sequence[Axes], pictures: Sequence[Any]) -> None:
    """Draw a scale bar into the last panel, or into all where they differ in scale."""
    drawn = [
        (ax, each) for ax, each in zip(axes, pictures, strict=True) if isinstance(each, Picture)
    ]
    scales = {(round(parts.length(p.x), 9), geometry.unit(p.x)) for _, p in drawn}
    for ax, picture in drawn if len(scales) > 1 else drawn[-1:]:
        parts.draw_scale_bar(ax, picture, share=0.4, size="small")
