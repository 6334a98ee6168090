"""A zarr store, for reading, of values that lie in other files."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from ngff_xarray.errors import Issue, StoreError
from ngff_xarray.storage.readable import Readable, cut
from ngff_xarray.text import printable
from ngff_xarray.virtual.index import WHOLE, Lookup, Reference
from ngff_xarray.virtual.targets import MAX_SHOWN, Opener, Reach, Target, shown

MAX_CHUNK = 2**31  # bytes that one reference may ask for: what compressors can hold


class ReferenceStore(Readable):
    """Looks keys up in references, and reads the bytes that they name: one request each.

    Parameters
    ----------
    reach
        Which source the references are of, and where it lies.
    lookup
        The references.
    opener
        Makes the stores of the directories that are referred to.
    issues
        What was odd about the source.
    """

    supports_listing = True

    def __init__(
        self, reach: Reach, lookup: Lookup, opener: Opener, issues: Iterable[Issue] = ()
    ) -> None:
        super().__init__()
        self.reach = reach
        self.lookup = lookup
        self.issues = tuple(issues)
        self._opener = opener
        self._stores: dict[str, Store] = {}

    @property
    def store(self) -> Store | None:
        """The store of the directory that the references came in, None without one."""
        return None if self.reach.root is None else self._store(Target("", ""))

    def __str__(self) -> str:
        return self.reach.source

    def __repr__(self) -> str:
        return f"ReferenceStore({self.reach.source!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ReferenceStore)
            and self.reach == other.reach
            and self.lookup == other.lookup
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stores": {}}

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, or a part of it; None if there is no such key.

        Raises
        ------
        StoreError
            If a reference names bytes that are not there.
        """
        found = await self.lookup.find(key)
        if found is None:
            return None
        if isinstance(found, Reference) and found.plain:
            # what undoes the compression wants it compressed; this only frames it
            pixels = await self._fetch(key, found, prototype, None)
            found = zlib.compress(pixels.to_bytes(), level=0)
        if isinstance(found, bytes):
            return prototype.buffer.from_bytes(found[cut(byte_range, len(found))])
        return await self._fetch(key, found, prototype, byte_range)

    async def _fetch(
        self, key: str, wanted: Reference, prototype: BufferPrototype, part: ByteRequest | None
    ) -> Buffer:
        size: int | None = None
        if wanted.size != WHOLE:
            if wanted.size > MAX_CHUNK:
                raise self._error(key, wanted, f"which is more than {MAX_CHUNK} bytes")
            asked = cut(part, wanted.size)
            part = RangeByteRequest(wanted.offset + asked.start, wanted.offset + asked.stop)
            size = asked.stop - asked.start
            if not size:
                return prototype.buffer.from_bytes(b"")
        found = await self._store(wanted.target).get(wanted.target.key, prototype, part)
        if found is None:
            raise self._error(key, wanted, "which is not there: was it moved?")
        if size is not None and len(found) != size:
            raise self._error(key, wanted, f"of which {len(found)} bytes came")
        return found

    def _store(self, target: Target) -> Store:
        directory = target.directory or self.reach.root or ""
        if directory not in self._stores:
            self._stores[directory] = self._opener(directory)
        return self._stores[directory]

    def _error(self, key: str, wanted: Reference, what: str) -> StoreError:
        part = "" if wanted.size == WHOLE else f"{wanted.size} bytes at {wanted.offset} of "
        file = shown("/".join(filter(None, wanted.target)))
        key = printable(key, MAX_SHOWN)
        return StoreError(f"{self}: {key!r} refers to {part}{file!r}, {what}")

    async def exists(self, key: str) -> bool:
        """Tell whether there is a key."""
        return await self.lookup.find(key) is not None

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for key in self.lookup.keys():  # noqa: SIM118, it is no mapping
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a prefix."""
        for key in self.lookup.keys(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of what is directly below a group or array."""
        start = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        names = {key.removeprefix(start).partition("/")[0] for key in self.lookup.keys(start)}
        for name in sorted(names):
            yield name
