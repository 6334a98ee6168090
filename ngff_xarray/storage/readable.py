"""What stores have in common that are for reading only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype


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
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._check_writable()
