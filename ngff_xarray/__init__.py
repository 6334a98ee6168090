"""OME-Zarr images at home in xarray."""

__version__ = "0.1.0.dev0"
