"""Files of other formats that are read in place, as the zarr hierarchy that references make."""
