"""The levels of a pyramid: which there are, how they are made, and writing them out of core."""

from ngff_xarray.pyramid.building import build
from ngff_xarray.pyramid.layout import chunk_sizes, shard_sizes
from ngff_xarray.pyramid.levels import derived, variables
from ngff_xarray.pyramid.plan import PlannedLevel, below, plan
from ngff_xarray.pyramid.reductions import DESCRIPTIONS, METHODS, Method, mean, reduction
from ngff_xarray.pyramid.sources import processors, reader

__all__ = [
    "DESCRIPTIONS",
    "METHODS",
    "Method",
    "PlannedLevel",
    "below",
    "build",
    "chunk_sizes",
    "derived",
    "mean",
    "plan",
    "processors",
    "reader",
    "reduction",
    "shard_sizes",
    "variables",
]
