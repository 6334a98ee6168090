"""A file in a zarr store as Python reads files: in blocks, each of which is one request."""

from __future__ import annotations

import io
from typing import Any

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ngff_xarray.errors import NgffError, StoreError, StoreNotFoundError
from ngff_xarray.text import printable

BLOCK = 2**20
MAX_KEPT = 160  # blocks at a time
MAX_AHEAD = 128  # blocks, after which no more are read than are asked for


class BlockFile(io.RawIOBase):
    """A file that is read at random.

    Parameters
    ----------
    store, key
        Where it is.
    name
        What to call it.

    Notes
    -----
    A request asks for as many blocks as came with all before it. What is gathered in one place
    is there after two or three. What lies scattered between the pixels of a smaller file costs
    bytes then, which are cheaper than waiting; of a larger one, single blocks are read in the end.
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._name = name
        self.failure: Exception | None = None
        self._at = 0
        self._read = 1
        self._blocks: dict[int, memoryview] = {}
        self.size = self._measure()

    def _measure(self) -> int:
        """Return the size of the file, after reading its first block."""
        try:
            content = self._get(0, BLOCK)
            size = len(content) if len(content) < BLOCK else sync(self._store.getsize(self._key))
        except NgffError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {printable(error, 500)}"
            raise StoreError(f"{self._name}: cannot be read: {text}") from error
        if len(content) > BLOCK:
            raise StoreError(
                f"{self._name}: {BLOCK} bytes were asked for, {len(content)} came: the server "
                "does not send parts of files"
            )
        self._blocks[0] = memoryview(content)
        return size

    def _get(self, start: int, end: int) -> bytes:
        part = RangeByteRequest(start, end)
        found = sync(self._store.get(self._key, default_buffer_prototype(), part))
        if found is None:
            raise StoreNotFoundError(f"{self._name}: there is no such file")
        return found.to_bytes()

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

    def _block(self, number: int) -> memoryview:
        if number not in self._blocks:
            try:
                self._fetch(number)
            except Exception as error:
                self.failure = error  # what calls this may not hand it on
                raise
        return self._blocks[number]

    def _fetch(self, number: int) -> None:
        """Read a block, and perhaps some that follow."""
        count = max(1, self._read - 1) if self._read < MAX_AHEAD else 1
        wanted = [number]
        while len(wanted) < count and wanted[-1] + 1 not in self._blocks:
            wanted.append(wanted[-1] + 1)
        start, end = number * BLOCK, min(self.size, (wanted[-1] + 1) * BLOCK)
        content = memoryview(self._get(start, end))
        if len(content) != end - start:
            raise StoreError(
                f"{self._name}: {end - start} bytes at {start} were asked for, {len(content)} came"
            )
        self._read += len(wanted)
        for i, block in enumerate(wanted):
            self._blocks[block] = content[i * BLOCK : (i + 1) * BLOCK]
        for old in list(self._blocks)[: max(0, len(self._blocks) - MAX_KEPT)]:
            if old != number:
                del self._blocks[old]
