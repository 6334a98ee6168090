"""The levels of a pyramid: which there are, how they are made, and writing them out of core."""

from ngff_xarray.pyramid.building import NOTED, Journal, Made, build, is_better_apart, sides
from ngff_xarray.pyramid.cascade import Step, build_by_levels, in_threads
from ngff_xarray.pyramid.layout import chunk_sizes, shard_sizes
from ngff_xarray.pyramid.levels import by_levels, derived, variables
from ngff_xarray.pyramid.plan import PlannedLevel, below, plan
from ngff_xarray.pyramid.reductions import (
    DESCRIPTIONS,
    METHODS,
    Method,
    State,
    is_centred,
    mean,
    reduction,
)
from ngff_xarray.pyramid.smoothing import reached
from ngff_xarray.pyramid.sources import Read, block_size, chunks_of, processors, reader
from ngff_xarray.pyramid.spreading import bare, spread

__all__ = [
    "DESCRIPTIONS",
    "METHODS",
    "NOTED",
    "Journal",
    "Made",
    "Method",
    "PlannedLevel",
    "Read",
    "State",
    "Step",
    "bare",
    "below",
    "block_size",
    "build",
    "build_by_levels",
    "by_levels",
    "chunk_sizes",
    "chunks_of",
    "derived",
    "in_threads",
    "is_better_apart",
    "is_centred",
    "mean",
    "plan",
    "processors",
    "reached",
    "reader",
    "reduction",
    "shard_sizes",
    "sides",
    "spread",
    "variables",
]
