"""Pixels written into an image that is there, or behind its last ones: all levels follow."""

from ngff_xarray.regions.door import append, write_region
from ngff_xarray.regions.writing import end

__all__ = ["append", "end", "write_region"]
