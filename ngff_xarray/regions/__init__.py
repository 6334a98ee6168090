"""Pixels written into an image that is there, or behind its last ones: all levels follow."""

from ngff_xarray.regions.door import append, write_region

__all__ = ["append", "write_region"]
