"""Reading: groups of every kind, as trees and parts of them."""

from ngff_xarray.read.door import (
    open_below,
    open_field,
    open_image,
    open_place,
    open_tree,
    tree_of,
)
from ngff_xarray.read.fields import (
    FieldPlace,
    OneLevel,
    WellPlace,
    find_field,
    find_well,
    listed_levels,
    open_level,
)
from ngff_xarray.read.nodes import open_nodes
from ngff_xarray.read.opening import Opening

__all__ = [
    "FieldPlace",
    "OneLevel",
    "Opening",
    "WellPlace",
    "find_field",
    "find_well",
    "listed_levels",
    "open_below",
    "open_field",
    "open_image",
    "open_level",
    "open_nodes",
    "open_place",
    "open_tree",
    "tree_of",
]
