"""Pixels written into an image that is there, or behind its last ones: all levels follow."""

from ngff_xarray.regions.door import append, end, write_region

__all__ = ["append", "end", "write_region"]
