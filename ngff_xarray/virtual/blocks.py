"""An HDF5 file in a zarr store, of which pieces are read where something is looked for."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype

from ngff_xarray.errors import MissingDependencyError, NgffError, StoreError, StoreNotFoundError
from ngff_xarray.once import Once
from ngff_xarray.text import printable
from ngff_xarray.virtual.kinds import HDF5_MAGIC
from ngff_xarray.virtual.targets import MAX_SHOWN

if TYPE_CHECKING:
    import h5py

BLOCK = 2**20  # bytes that a request asks for while little is known of a file
PAGE = 2**14  # and later
MAX_BLOCKS = 2**5  # that are kept meanwhile
MAX_PAGES = 2**12
MAX_TRIES = 2**10
PATIENCE = 8  # tries before more is read at a time

Answer = TypeVar("Answer")


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
    size = int.from_bytes(content[at : at + 8], "little")
    return size if content[length] == 8 and size > 48 else None


class BlockFile:
    """A file of which pieces are read as they are needed: one request each, and many at a time.

    Parameters
    ----------
    store, key
        Where it is.
    name
        What to call it.
    path
        Where a local file is, which the library may read itself.
    """

    def __init__(self, store: Store, key: str, name: str, path: Path | None = None) -> None:
        self._store = store
        self._key = key
        self._path = path
        self.name = name
        self.size = 0  # until it is known
        self._blocks: Once[int, bytes] = Once(MAX_BLOCKS)
        self._pages: Once[int, bytes] = Once(MAX_PAGES)

    def forget_blocks(self) -> None:
        """Keep no more than the pages that something was looked up in."""
        self._blocks = Once(MAX_BLOCKS)

    async def measure(self) -> None:
        """Find out how long the file is: HDF5 says so, to ask the store would be a request more.

        Raises
        ------
        StoreError
            If it is no HDF5 file.
        """
        start = await self._block(0)
        size = stated_size(start)
        if size is None:
            raise StoreError(f"{self.name}: is no HDF5 file: expected its signature at the start")
        self.size = size
        self._check(start, 0, min(size, BLOCK))

    async def read(self, start: int, count: int, *, ahead: bool = False) -> bytes:
        """Return bytes of the file, fewer at its end; ``ahead`` is that of `ask`."""
        numbers = self._numbers(start, count)
        pages = await asyncio.gather(*(self._load(n, ahead) for n in numbers))
        return _joined(numbers, pages, start, count)

    def here(self, start: int, count: int) -> bytes | set[int]:
        """Return bytes that were read, or the numbers of the pages that were not."""
        numbers = self._numbers(start, count)
        pages = [self._page(n) for n in numbers]
        missing = {n for n, page in zip(numbers, pages, strict=True) if page is None}
        return missing or _joined(numbers, [page for page in pages if page], start, count)

    def _numbers(self, start: int, count: int) -> range:
        return range(start // PAGE, -(-min(start + count, self.size) // PAGE))

    def _page(self, number: int) -> bytes | None:
        """Return a page if it was read, by itself or in a block."""
        page, block = self._pages.here(number), self._blocks.here(number * PAGE // BLOCK)
        if page is None and block is not None:
            start = number * PAGE % BLOCK
            page = block[start : start + PAGE]
            self._pages.keep(number, page)
        return page

    async def _load(self, number: int, ahead: bool) -> bytes:
        if ahead and self._page(number) is None:
            await self._block(number * PAGE // BLOCK)
        page = self._page(number)
        if page is None:
            page = await self._pages.get(number, partial(self._get, number * PAGE, PAGE))
        return page

    async def _block(self, number: int) -> bytes:
        return await self._blocks.get(number, partial(self._get, number * BLOCK, BLOCK))

    async def ask(
        self, question: Callable[[h5py.File, io.RawIOBase], Answer], *, ahead: bool = False
    ) -> Answer:
        """Return what the HDF5 library answers.

        The library reads one place after another, and waits for each. So it sees only what is
        here: where it looks for more, that is read and the question is put again, and others
        come about their answers meanwhile. One try takes less than a millisecond.

        Parameters
        ----------
        question
            Is given the file, and the bytes of it. It may be called many times.
        ahead
            Whether to read 1 MiB around each place, for fewer requests: what HDF5 says of groups
            is near to one another. What it says of chunks lies between the pixels.

        Raises
        ------
        StoreError
            If the file is broken.
        """
        for tries in range(MAX_TRIES):
            view = _View(self) if self._path is None else _Local(self._path)
            try:
                answer = await asyncio.to_thread(_answer, question, view)
            except NgffError:
                if not view.missing:
                    raise
            except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
                if not view.missing:  # h5py raises whatever the library said
                    text = printable(error, MAX_SHOWN)
                    raise StoreError(f"{self.name}: cannot be read as HDF5: {text}") from error
            if not view.missing:
                return answer
            ahead = ahead or tries >= PATIENCE
            await asyncio.gather(*(self._load(n, ahead) for n in view.missing))
        raise StoreError(
            f"{self.name}: what it says of itself is scattered over more than {MAX_TRIES} places: "
            "h5repack gathers it"
        )

    async def _get(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size) if self.size else length
        part = RangeByteRequest(start, end)
        found = await self._store.get(self._key, default_buffer_prototype(), part)
        if found is None:
            raise StoreNotFoundError(f"{self.name}: there is no such file")
        content = found.to_bytes()
        if self.size:
            self._check(content, start, end)
        return content

    def _check(self, content: bytes, start: int, end: int) -> None:
        if len(content) < end - start:
            raise StoreError(
                f"{self.name}: ends before the {self.size} bytes that it should have: "
                f"{end - start} at {start} were asked for, {len(content)} came: copy it again"
            )


def _joined(numbers: range, pages: Sequence[bytes], start: int, count: int) -> bytes:
    """Return bytes of pages that follow each other."""
    first = start - numbers.start * PAGE
    return b"".join(pages)[first : first + count]


def _answer(question: Callable[[h5py.File, io.RawIOBase], Answer], view: _View | _Local) -> Answer:
    with view:
        try:
            import h5py
        except ImportError as error:
            raise MissingDependencyError("h5py", "imaris", "reading Imaris files") from error
        with h5py.File(view, "r") as file:
            return question(file, view)


class _Local(io.FileIO):
    """All of a file."""

    missing = frozenset[int]()


class _View(io.RawIOBase):
    """What is here of a file, as Python reads files; ``missing`` are the pages that were not."""

    def __init__(self, file: BlockFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0
        self.missing: set[int] = set()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self._file.here(self._at, len(view))
        if isinstance(found, set):
            self.missing |= found
            raise BlockingIOError(f"{self._file.name}: pages {sorted(found)} are not here yet")
        view[: len(found)] = found
        self._at += len(found)
        return len(found)
