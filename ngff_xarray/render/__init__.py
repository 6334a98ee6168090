"""Arrays to RGB: the colours, windows and label overlays behind every picture.

Nothing here knows a file, a widget or a plotting library, so the same pixels come out of a
viewer, a thumbnail and a test. The arithmetic works on blocks of rows that stay in the cache:
on a 1024 x 1024 view that is most of the difference to the obvious numpy expression.
"""

from ngff_xarray.render.channels import (
    Color,
    auto_window,
    channel_colors,
    composite,
    hex_color,
)
from ngff_xarray.render.colormaps import COLORMAPS, colormap
from ngff_xarray.render.labels import label_colors, overlay_labels
from ngff_xarray.render.png import png
from ngff_xarray.render.projections import PROJECTIONS, Projection, project

__all__ = [
    "COLORMAPS",
    "PROJECTIONS",
    "Color",
    "Projection",
    "auto_window",
    "channel_colors",
    "colormap",
    "composite",
    "hex_color",
    "label_colors",
    "overlay_labels",
    "png",
    "project",
]
