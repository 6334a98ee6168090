"""Writing: images, plates and collections, with all that their store said."""

from ngff_xarray.write.door import to_zarr, write_image
from ngff_xarray.write.elsewhere import attributes_at, write_levels_at
from ngff_xarray.write.many import write_collection, write_plate
from ngff_xarray.write.writing import Resume, check_json

__all__ = [
    "Resume",
    "attributes_at",
    "check_json",
    "to_zarr",
    "write_collection",
    "write_image",
    "write_levels_at",
    "write_plate",
]
