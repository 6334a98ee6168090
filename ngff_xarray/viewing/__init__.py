"""Views of images in one world, as tiles: what a viewer in a browser is made of, without one.

`make_world` makes layers of xarray objects, a `View` says what is seen of them, a `TileServer`
draws that, and `Frames` sends it to whoever shows it.
"""

from ngff_xarray.viewing.cache import Lru
from ngff_xarray.viewing.frames import Frames
from ngff_xarray.viewing.layers import Dimension, Layer, World, make_world
from ngff_xarray.viewing.model import (
    ChannelView,
    LabelView,
    LayerView,
    View,
    fitted,
    home_view,
    scale_bar,
    scale_units,
)
from ngff_xarray.viewing.tiles import Caches, TileServer

__all__ = [
    "Caches",
    "ChannelView",
    "Dimension",
    "Frames",
    "LabelView",
    "Layer",
    "LayerView",
    "Lru",
    "TileServer",
    "View",
    "World",
    "fitted",
    "home_view",
    "make_world",
    "scale_bar",
    "scale_units",
]
