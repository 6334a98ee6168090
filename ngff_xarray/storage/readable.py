"""What stores have in common that are for reading only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NoReturn

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from ngff_xarray.errors import StoreError


class Readable(Store):
    """A store for reading; who derives from it says how keys are found and listed."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return several parts of keys, asked for together."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    @property
    def supports_writes(self) -> bool:
        """It is for reading."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """It is for reading."""
        return False

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse."""
        self._refuse()

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(f"{self}: is for reading only: write to another place")


def cut(part: ByteRequest | None, size: int) -> slice:
    """Return which of so many bytes are asked for.

    Examples
    --------
    >>> cut(SuffixByteRequest(4), 10), cut(RangeByteRequest(8, 16), 10), cut(None, 10)
    (slice(6, 10, None), slice(8, 10, None), slice(0, 10, None))
    """
    start, end = 0, size
    if isinstance(part, RangeByteRequest):
        start, end = part.start, part.end
    elif isinstance(part, OffsetByteRequest):
        start = part.offset
    elif isinstance(part, SuffixByteRequest):
        start = size - part.suffix
    start = min(max(start, 0), size)
    return slice(start, max(start, min(end, size)))
