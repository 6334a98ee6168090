"""How many chunks of one read are under way: zarr has one number for all stores, and it is low."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import zarr
from zarr.abc.store import Store

from ngff_xarray.storage.guarded import Guarded

_NAME = "async.concurrency"
_lock = threading.Lock()
_reading = 0
_before = 0


@contextmanager
def concurrency_of(store: Store) -> Iterator[None]:
    """While in here, zarr reads as many chunks at a time as a store on a network likes.

    Of several reads at a time the first sets the number and the last puts it back.
    """
    global _reading, _before
    if not isinstance(store, Guarded):
        store = getattr(store, "store", store)  # that a zip file or references are in
    if not isinstance(store, Guarded):
        yield
        return
    with _lock:
        if _reading == 0:
            _before = zarr.config.get(_NAME)
        _reading += 1
        zarr.config.set({_NAME: max(_before, zarr.config.get(_NAME), store.access.connections)})
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if _reading == 0:
                zarr.config.set({_NAME: _before})
