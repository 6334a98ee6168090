"""A file in a zarr store as Python reads files: in blocks, each of which is one request."""

from __future__ import annotations

import io
from typing import Any

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ngff_xarray.errors import StoreError

BLOCK = 2**20
MAX_KEPT = 256  # blocks at a time


class BlockFile(io.RawIOBase):
    """A file that is read at random.

    Parameters
    ----------
    store, key
        Where it is.
    name
        What to call it.
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._name = name
        self.size = int(sync(store.getsize(key)))
        self.failure: Exception | None = None
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is room for, or as the file has."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        done = 0
        while done < count:
            number, start = divmod(self._at, BLOCK)
            part = self._block(number)[start : start + count - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            try:
                self._blocks[number] = self._fetch(number)
            except Exception as error:
                self.failure = error  # what calls this may not hand it on
                raise
            while len(self._blocks) > MAX_KEPT:
                del self._blocks[next(iter(self._blocks))]
        return self._blocks[number]

    def _fetch(self, number: int) -> bytes:
        start, end = number * BLOCK, min(self.size, (number + 1) * BLOCK)
        part = RangeByteRequest(start, end)
        found = sync(self._store.get(self._key, default_buffer_prototype(), part))
        if found is None or len(found) != end - start:
            came = "nothing" if found is None else f"{len(found)} bytes"
            raise StoreError(
                f"{self._name}: {end - start} bytes at {start} were asked for, {came} came"
            )
        return found.to_bytes()
