"""A file in a zarr store as Python reads files, in few requests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable
from typing import Any

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ngff_xarray.errors import StoreError, StoreNotFoundError
from ngff_xarray.virtual.kinds import HDF5_MAGIC

BLOCK = 2**20
SMALL = 128 * BLOCK  # a file of which all may be read
MAX_KEPT = 2**16  # pages at a time
AT_ONCE = 64  # requests
_PAGE = 2**12
_GAP = 2**6  # pages that cost less than another request


def stated_size(content: bytes) -> int | None:
    """Return how long an HDF5 file says to be at its beginning, or None if that is none.

    Examples
    --------
    >>> stated_size(b"GIF89a") is None
    True
    """
    # the superblock: the signature, its version, how long addresses are, and the end of the file
    version = content[8] if content.startswith(HDF5_MAGIC) and len(content) > 48 else None
    places = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
    if version not in places:
        return None
    length, at = places[version]
    return int.from_bytes(content[at : at + 8], "little") if content[length] == 8 else None


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
    A request asks for 1 MiB at least, and in a small file for as much as came with all before
    it: what is gathered in one place is there after two or three, and what lies scattered
    between the pixels costs bytes, which are cheaper than waiting. In a large file they are
    not: see `prefetch`.
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._name = name
        self.failure: Exception | None = None
        self._at = 0
        self._came = 0
        self._pages: dict[int, memoryview] = {}
        self.size = self._measure()

    def _measure(self) -> int:
        """Return the size of the file, after reading its beginning and, of a longer one, its end.

        HDF5 says it at the beginning; to ask the store for it would take a request, too.
        """
        content = sync(self._get(0, BLOCK))
        self._keep(0, content)
        if len(content) < BLOCK:
            return len(content)
        size = stated_size(content)
        if size is None:
            raise StoreError(f"{self._name}: is no HDF5 file")
        last = (size - 1) // BLOCK * BLOCK
        if last > 0:
            end = sync(self._get(last, size))
            if len(end) != size - last:
                raise StoreError(f"{self._name}: ends before the {size} bytes that it should have")
            self._keep(last, end)
        return size

    async def _get(self, start: int, end: int) -> bytes:
        part = RangeByteRequest(start, end)
        found = await self._store.get(self._key, default_buffer_prototype(), part)
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
            number, start = divmod(self._at, _PAGE)
            part = self._page(number)[start : start + count - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def peek(self, offset: int, count: int) -> bytes:
        """Return bytes that are here already, or fewer where they are not."""
        found = b""
        while len(found) < count:
            number, start = divmod(offset + len(found), _PAGE)
            part = self._pages.get(number, memoryview(b""))[start : start + count - len(found)]
            if not part:
                break
            found += part
        return found

    def prefetch(self, offsets: Iterable[int], count: int) -> None:
        """Read so many bytes at each of many places, many places at a time."""
        pages = {
            page
            for offset in offsets
            if 0 <= offset < self.size
            for page in range(offset // _PAGE, -(-min(offset + count, self.size) // _PAGE))
        }
        ranges: list[list[int]] = []
        for page in sorted(pages - set(self._pages)):
            if ranges and page - ranges[-1][1] < _GAP:
                ranges[-1][1] = page + 1
            else:
                ranges.append([page, page + 1])

        async def fetch() -> None:
            gate = asyncio.Semaphore(AT_ONCE)

            async def one(first: int, end: int) -> None:
                async with gate:
                    await self._fetch(first * _PAGE, end * _PAGE)

            await asyncio.gather(*(one(*each) for each in ranges))

        self._run(fetch())

    def _page(self, number: int) -> memoryview:
        if number not in self._pages:
            ahead = BLOCK if self.size > SMALL else max(BLOCK, self._came)
            start = number * _PAGE // BLOCK * BLOCK
            end = start + ahead
            block = start + BLOCK  # the next ones, up to one that is here
            while block < end and block // _PAGE not in self._pages:
                block += BLOCK
            self._run(self._fetch(start, block))
        return self._pages[number]

    def _run(self, reading: Any) -> None:
        try:
            sync(reading)
        except Exception as error:
            self.failure = error  # what calls this may not hand it on
            raise

    async def _fetch(self, start: int, end: int) -> None:
        end = min(end, self.size)
        content = await self._get(start, end)
        if len(content) != end - start:
            raise StoreError(
                f"{self._name}: {end - start} bytes at {start} were asked for, {len(content)} came"
            )
        self._keep(start, content)

    def _keep(self, start: int, content: bytes) -> None:
        self._came += len(content)
        view, first = memoryview(content), start // _PAGE
        for i in range(-(-len(content) // _PAGE)):
            self._pages[first + i] = view[i * _PAGE : (i + 1) * _PAGE]
        for old in list(self._pages)[: max(0, len(self._pages) - MAX_KEPT)]:
            if not first <= old < first + len(content) // _PAGE + 1:
                del self._pages[old]
