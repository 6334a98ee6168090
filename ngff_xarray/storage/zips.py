"""Zip files as stores (RFC-9, ``.ozx``), local or remote: the directory at the end, then ranges."""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from ngff_xarray.errors import StoreError
from ngff_xarray.storage.readable import Readable, cut
from ngff_xarray.text import printable

_TAIL = 2**16  # bytes of the end that are read first: mostly the whole directory
_MOST_DIRECTORY = 2**28  # bytes
_MOST_ENTRIES = 2**22
_MOST_INFLATED = 2**30  # bytes of one deflated entry
_LOCAL = struct.Struct("<4s5H3I2H")  # the header before an entry's data
_SLACK = 128  # bytes that an entry's local header may be longer than its name
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"
_END64_SIZE, _LOCATOR = 56, 20  # bytes of the record of ZIP64, and of what says where it is


class ZipStore(Readable):
    """The entries of a zip file, for reading: one request an entry, after two for the directory.

    Parameters
    ----------
    store, key
        Where the file is.
    place
        What people know it by.

    Raises
    ------
    StoreError
        When it is read: if the file is no zip, is encrypted, or has names that lead out of it.
    """

    def __init__(self, store: Store, key: str, place: str) -> None:
        super().__init__()
        self.store, self.key, self.place = store, key, place
        self._entries: dict[str, zipfile.ZipInfo] | None = None
        self._size = 0  # of the file, once its directory is read
        self._starts: dict[str, int] = {}
        self._opening: asyncio.Task[dict[str, zipfile.ZipInfo]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opening": None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZipStore) and (self.store, self.key) == (other.store, other.key)

    def __hash__(self) -> int:
        return hash((type(self), self.key))

    def __str__(self) -> str:
        return self.place

    # ---- the directory ---------------------------------------------------------------------

    async def _directory(self) -> dict[str, zipfile.ZipInfo]:
        if self._entries is None:
            if self._opening is None:
                self._opening = asyncio.ensure_future(self._read_directory())
            opening = self._opening
            try:
                self._entries = await asyncio.shield(opening)
            finally:
                if opening.done():
                    self._opening = None
        return self._entries

    async def _read_directory(self) -> dict[str, zipfile.ZipInfo]:
        tail = await self._bytes(self._end())
        if tail is None:
            raise StoreError(f"{self.place}: there is no such file")
        listed = _listed(tail, self.place)
        if isinstance(listed, range):  # it is longer: once more, all of it
            if len(listed) > _MOST_DIRECTORY:
                raise StoreError(f"{self.place}: a directory of {len(listed)} bytes is not read")
            tail = await self._bytes(RangeByteRequest(listed.start, listed.stop))
            listed = _listed(tail or b"", self.place)
        if isinstance(listed, range):
            raise StoreError(f"{self.place}: the directory of this zip file is damaged")
        self._size = listed.size
        return _checked(listed.entries, self.place)

    def _end(self) -> ByteRequest:
        if isinstance(self.store, LocalStore):  # which knows no end longer than a file
            path = self.store.root / self.key
            size = path.stat().st_size if path.exists() else 0
            return RangeByteRequest(max(0, size - _TAIL), size)
        return SuffixByteRequest(_TAIL)

    async def _bytes(self, part: ByteRequest) -> bytes | None:
        found = await self.store.get(self.key, default_buffer_prototype(), part)
        return None if found is None else found.to_bytes()

    # ---- entries ---------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an entry, or a part of it; None if there is none of that name."""
        entry = (await self._directory()).get(key)
        if entry is None:
            return None
        if byte_range is not None and entry.compress_type == zipfile.ZIP_STORED:
            return prototype.buffer.from_bytes(await self._part(key, entry, byte_range))
        content = await self._content(key, entry)
        if byte_range is not None:
            content = content[cut(byte_range, len(content))]
        return prototype.buffer.from_bytes(content)

    async def _content(self, key: str, entry: zipfile.ZipInfo) -> bytes:
        name = f"{self.place}: {printable(key, 200)}"
        if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > _MOST_INFLATED:
            raise StoreError(
                f"{name} is said to unpack to {entry.file_size} bytes: that is refused"
            )
        start = entry.header_offset
        length = _LOCAL.size + len(entry.orig_filename.encode()) + _SLACK + entry.compress_size
        end = min(start + length, self._size)
        found = await self._bytes(RangeByteRequest(start, end)) or b""
        skipped = _header_size(found, name)
        self._starts[key] = start + skipped
        packed = found[skipped : skipped + entry.compress_size]
        if len(packed) < entry.compress_size:  # a longer header than ours has slack for
            end = start + skipped + entry.compress_size
            packed = await self._bytes(RangeByteRequest(start + skipped, end)) or b""
        content = _unpacked(packed, entry, name)
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise StoreError(f"{name} is damaged: it is not what the zip file's directory says")
        return content

    async def _part(self, key: str, entry: zipfile.ZipInfo, part: ByteRequest) -> bytes:
        """Return a part of an entry that is stored as it is."""
        wanted = cut(part, entry.file_size)
        if wanted.start >= wanted.stop:
            return b""
        start = self._starts.get(key)
        if start is None:
            name = f"{self.place}: {printable(key, 200)}"
            first = entry.header_offset
            header = await self._bytes(RangeByteRequest(first, first + _LOCAL.size)) or b""
            start = self._starts[key] = first + _header_size(header, name)
        return await self._bytes(RangeByteRequest(start + wanted.start, start + wanted.stop)) or b""

    async def getsize(self, key: str) -> int:
        """Return how many bytes an entry has; FileNotFoundError if there is none of that name."""
        entry = (await self._directory()).get(key)
        if entry is None:
            raise FileNotFoundError(key)
        return entry.file_size

    async def exists(self, key: str) -> bool:
        """Tell whether there is an entry."""
        return key in await self._directory()

    async def list(self) -> AsyncIterator[str]:
        """Yield the names of all entries."""
        for name in await self._directory():
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names that begin so."""
        for name in await self._directory():
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix."""
        start = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        below = (name[len(start) :] for name in await self._directory() if name.startswith(start))
        for name in dict.fromkeys(name.partition("/")[0] for name in below):
            yield name

    @property
    def supports_listing(self) -> bool:
        """Its directory is read anyway."""
        return True


class _Tail(io.BytesIO):
    """The end of a file, at its place in a file of zeros; what the stdlib reads a directory of."""

    def __init__(self, tail: bytes, start: int) -> None:
        super().__init__(tail)
        self._start = start

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == io.SEEK_SET:
            offset = max(0, offset - self._start)
        return super().seek(offset, whence) + self._start

    def tell(self) -> int:
        return super().tell() + self._start


@dataclass(frozen=True)
class _Listing:
    """What the end of a zip file says: its entries, and how long the file is."""

    entries: list[zipfile.ZipInfo]
    size: int


def _listed(tail: bytes, place: str) -> _Listing | range:
    """Return what the end of a zip file lists, or where its directory is."""
    at = end = _end_of_directory(tail)
    if at < 0:
        raise StoreError(f"{place}: this is no zip file, or its end is missing: copy it again")
    size, offset = struct.unpack_from("<II", tail, at + 12)
    before = at - _LOCATOR - _END64_SIZE
    if before >= 0 and tail[before : before + 4] == _END64:  # of ZIP64, which has larger numbers
        size, offset = struct.unpack_from("<QQ", tail, before + 40)
        at = before
    start = at - size  # of the directory, in what we have
    if start < 0:
        return range(offset, offset + size + len(tail) - at)
    try:
        # without the comment, which may hold what looks like an end
        with zipfile.ZipFile(_Tail(tail[start : end + 20] + bytes(2), offset)) as archive:
            return _Listing(archive.infolist(), offset + len(tail) - start)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise StoreError(f"{place}: this zip file cannot be read: {error}") from error


def _end_of_directory(tail: bytes) -> int:
    """Return where the record at the end begins, which is as long as it says; -1 if nowhere."""
    at = len(tail)
    while (at := tail.rfind(_END, 0, at)) >= 0:
        if len(tail) >= at + 22 == len(tail) - int.from_bytes(tail[at + 20 : at + 22], "little"):
            return at
    return -1


def _checked(listed: list[zipfile.ZipInfo], place: str) -> dict[str, zipfile.ZipInfo]:
    if len(listed) > _MOST_ENTRIES:
        raise StoreError(
            f"{place}: {len(listed)} entries are more than are read: unpack it, and open the folder"
        )
    found = {}
    for entry in listed:
        name = entry.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise StoreError(f"{place}: the entry {printable(name, 200)!r} leads out of the file")
        if entry.flag_bits & 1:
            raise StoreError(
                f"{place}: the entry {printable(name, 200)!r} is encrypted: unpack it with its "
                "password"
            )
        if not entry.is_dir():
            found[name] = entry
    return found


def _header_size(found: bytes, name: str) -> int:
    """Return how long the header before an entry's data is."""
    if len(found) < _LOCAL.size or found[:4] != b"PK\x03\x04":
        raise StoreError(
            f"{name}: the zip file is damaged: there is no entry where it should be: copy it again"
        )
    *_, names, extra = _LOCAL.unpack_from(found)
    return _LOCAL.size + int(names) + int(extra)


def _unpacked(packed: bytes, entry: zipfile.ZipInfo, name: str) -> bytes:
    if entry.compress_type == zipfile.ZIP_STORED:
        return packed
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise StoreError(
            f"{name} is packed in a way that is not read ({entry.compress_type}): unpack the "
            "file, and pack it without compression"
        )
    try:
        # no more than was declared, whatever the data would unpack to
        return zlib.decompressobj(-15).decompress(packed, entry.file_size + 1)
    except zlib.error as error:
        raise StoreError(f"{name} is damaged: {error}") from error
