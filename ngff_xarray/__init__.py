"""OME-Zarr images at home in xarray: named axes, physical units, pyramids, labels, pictures.

``xr.open_datatree(path).ngff`` works without importing this package; the functions here are
for what starts without an xarray object, and for type checkers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngff_xarray.accessor import ngff, register
from ngff_xarray.errors import NgffError

if TYPE_CHECKING:
    from ngff_xarray.samples import sample

__version__ = "0.1.0.dev0"
__all__ = ["NgffError", "__version__", "ngff", "sample"]

register()


def __getattr__(name: str) -> Any:
    if name == "sample":  # needs zarr, which whoever opens other files should not pay for
        from ngff_xarray.samples import sample

        return sample
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
