"""OME-Zarr images at home in xarray: named axes, physical units, pyramids, labels, pictures.

``xr.open_datatree(path).ngff`` works without importing this package; the functions here are
for what starts without an xarray object, and for type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ngff_xarray.accessor import ngff, register
from ngff_xarray.errors import NgffError

if TYPE_CHECKING:
    from ngff_xarray.analyse.comparing import compare
    from ngff_xarray.analyse.patch_stitching import stitch_patches
    from ngff_xarray.converting import convert, open_image
    from ngff_xarray.export.serving import serve
    from ngff_xarray.mending import repair
    from ngff_xarray.referencing import references
    from ngff_xarray.samples import sample
    from ngff_xarray.validation import validate
    from ngff_xarray.write import write_collection, write_plate

__version__ = "0.1.0.dev0"
__all__ = [
    "NgffError",
    "__version__",
    "compare",
    "convert",
    "ngff",
    "open_image",
    "references",
    "repair",
    "sample",
    "serve",
    "stitch_patches",
    "validate",
    "write_collection",
    "write_plate",
]

register()


# where to find what needs zarr, which whoever opens other files should not pay for
_LATER = {
    "compare": "ngff_xarray.analyse.comparing",
    "convert": "ngff_xarray.converting",
    "open_image": "ngff_xarray.converting",
    "references": "ngff_xarray.referencing",
    "repair": "ngff_xarray.mending",
    "sample": "ngff_xarray.samples",
    "serve": "ngff_xarray.export.serving",
    "stitch_patches": "ngff_xarray.analyse.patch_stitching",
    "validate": "ngff_xarray.validation",
    "write_collection": "ngff_xarray.write",
    "write_plate": "ngff_xarray.write",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
