"""A collection in a JSON file, as RFC-8 proposes it: the root of a store of what lies beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from ngff_xarray.storage.readable import Readable, cut
from ngff_xarray.virtual.targets import shown

ROOT = "zarr.json"


class DocumentStore(Readable):
    """A directory whose root group says what a JSON file in it says.

    Parameters
    ----------
    place
        The path or URL of the file.
    directory
        That of the directory.
    document
        What the file says.
    files
        The store of the directory.
    """

    supports_listing = True

    def __init__(
        self, place: str, directory: str, document: Mapping[str, Any], files: Store
    ) -> None:
        super().__init__()
        self.place, self.directory, self.files = place, directory, files
        said = {"zarr_format": 3, "node_type": "group", "attributes": dict(document)}
        self._root = json.dumps(said).encode()

    def __str__(self) -> str:
        return shown(self.place)

    def __repr__(self) -> str:
        return f"DocumentStore({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DocumentStore)
            and (self.place, self._root) == (other.place, other._root)
            and self.files == other.files
        )

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, or a part of it; None if there is no such key."""
        if key == ROOT:
            return prototype.buffer.from_bytes(self._root[cut(byte_range, len(self._root))])
        return await self.files.get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Tell whether there is a key."""
        return key == ROOT or await self.files.exists(key)

    async def list(self) -> AsyncIterator[str]:
        """Yield the key of the document: what is below, it names."""
        yield ROOT

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a prefix."""
        if ROOT.startswith(prefix):
            yield ROOT

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of what is directly below a group."""
        if not prefix.strip("/"):
            yield ROOT
