"""A path, a URL or another library's store -> a zarr store that tells the truth about a network.

`open_store` is the one function for every place. What it opens on a network retries what may
succeed, gives up after a time, and never lets an error pass for a chunk that is not there.
"""

from ngff_xarray.storage.access import Access
from ngff_xarray.storage.bulk import BulkReader
from ngff_xarray.storage.chunks import ChunkWriter
from ngff_xarray.storage.concurrency import concurrency_of
from ngff_xarray.storage.copying import Copying, are_alike
from ngff_xarray.storage.guarded import Guarded
from ngff_xarray.storage.opening import hint_of, is_shared, is_zarr_only, open_store, why_missing
from ngff_xarray.storage.zips import ZipStore

__all__ = [
    "Access",
    "BulkReader",
    "ChunkWriter",
    "Copying",
    "Guarded",
    "ZipStore",
    "are_alike",
    "concurrency_of",
    "hint_of",
    "is_shared",
    "is_zarr_only",
    "open_store",
    "why_missing",
]
